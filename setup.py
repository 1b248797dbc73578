"""What pyproject.toml cannot say: the C extension, and that one wheel is for every Python from 3.11 on."""

import sysconfig

from setuptools import setup

has_stable_abi = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if has_stable_abi else {},
)
