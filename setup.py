"""What pyproject.toml cannot say: the C extension, and that one wheel is for every Python from 3.11 on."""

import sysconfig

from setuptools import setup
from setuptools.command.build_ext import build_ext


class BuildExt(build_ext):
    """build_ext, but for one name."""

    def get_ext_filename(self, fullname: str) -> str:
        """Python 3.15 would have its platform in the name, which 3.11 to 3.13 do not look for."""
        name = super().get_ext_filename(fullname)
        before, has_platform, _ = name.rpartition(".abi3-")
        return f"{before}.abi3.so" if has_platform else name


has_stable_abi = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if has_stable_abi else {},
)
