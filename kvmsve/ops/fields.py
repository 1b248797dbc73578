"""What the fields of an operation may hold, and in which words that is told.

Hex, RegId, HexNumber, ErrorName and IdRegs are what a recording writes in a way of its own. A type checker knows them
as what they hold: an operation can be made with plain numbers and bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

if TYPE_CHECKING:
    Hex = bytes
    RegId = int
    HexNumber = int
    ErrorName = str
    IdRegs = dict[int, int]
else:

    class Hex(bytes):
        """bytes in hexadecimal"""

        __slots__ = ()

    class RegId(int):
        """a register ID of 16 hexadecimal digits"""

        __slots__ = ()

    class HexNumber(int):
        """a hexadecimal number of up to 64 bits"""

        __slots__ = ()

    class ErrorName(str):
        """the name of an error"""

        __slots__ = ()

    class IdRegs(dict):
        """an object of register IDs and values"""


Flag = Annotated[bool, Meta(description="true or false")]
Text = Annotated[str, Meta(description="a string")]
Mode = Annotated[Literal["sm", "za"], Meta(description='"sm" or "za"')]
Count = Annotated[int, Meta(ge=0, description="a number of 0 or more")]
Argument = Annotated[int, Meta(ge=-(1 << 31), description="a number of 32 bits with a sign or of 64 without")]
Int = Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31, description="a signed number of 32 bits")]
Bit = Annotated[int, Meta(ge=0, lt=32, description="a feature bit, 0 to 31")]
Bits = Annotated[list[Bit], Meta(description="a list of feature bits")]
Vq = Annotated[int, Meta(ge=1, le=16)]
Lengths = Annotated[list[Vq], Meta(description="a list of vector lengths in quadwords")]
Word = Annotated[int, Meta(ge=0, lt=1 << 32)]
FeatureWords = Annotated[list[Word], Meta(min_length=7, max_length=7, description="the seven feature words")]
RegIds = Annotated[list[RegId], Meta(description="a list of register IDs")]
