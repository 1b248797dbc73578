"""Facts: vCPU features, as names, as bits and as the words of struct kvm_vcpu_init."""

from __future__ import annotations

from collections.abc import Sequence, Set
from enum import Enum
from typing import SupportsIndex

from ..errors import check_number
from .abi import Abi

TARGET_GENERIC_V8 = 5
FEATURE_WORDS = 7


class Feature(Enum):
    """A vCPU feature (KVM_ARM_VCPU_*); the value is its bit, but for SME, whose bit is a matter of the revision."""

    POWER_OFF = 0
    EL1_32BIT = 1
    PSCI_0_2 = 2
    PMU_V3 = 3
    SVE = 4
    VEC = 4  # KVM_ARM_VCPU_VEC, what FINALIZE calls SVE and SME together
    PTRAUTH_ADDRESS = 5
    PTRAUTH_GENERIC = 6
    HAS_EL2 = 7
    HAS_EL2_E2H0 = 8  # from Linux 6.16 on; in RFC v2, v3 and v4 the bit is SME's
    PMU_V3_STRICT = 9  # from Linux 7.3 on; from v5 on the bit is SME's
    SME = "sme"

    def bit(self, abi: Abi) -> int:
        """The feature's bit number in a revision; ValueError where the revision has no such feature."""
        if self is not Feature.SME:
            return int(self.value)
        if abi.sme_feature is None:
            raise ValueError(f"{abi.name} has no SME feature")
        return abi.sme_feature


FeatureSet = Set[Feature | SupportsIndex] | Sequence[SupportsIndex]


def feature_words(features: FeatureSet, abi: Abi) -> list[int]:
    """The seven feature words of struct kvm_vcpu_init for a set of features or bit numbers; words stay as they are."""
    if isinstance(features, Set):
        numbers = {feature.bit(abi) if isinstance(feature, Feature) else check_bit(feature) for feature in features}
        return [sum(1 << bit % 32 for bit in numbers if bit // 32 == word) for word in range(FEATURE_WORDS)]
    words = list(features)
    if len(words) != FEATURE_WORDS:
        raise ValueError(f"features are a set, or {FEATURE_WORDS} words of 32 bits")
    return [check_number("a feature word", word, 0, 1 << 32) for word in words]


def check_bit(number: SupportsIndex) -> int:
    """The number as an int, if it is a bit of the seven feature words; TypeError or ValueError."""
    return check_number("a feature bit", number, 0, 32 * FEATURE_WORDS)


def bits(*features: Feature) -> int:
    """The features as a mask; not for SME, whose bit is the revision's."""
    return sum(1 << int(feature.value) for feature in features)


PTRAUTH = bits(Feature.PTRAUTH_ADDRESS, Feature.PTRAUTH_GENERIC)
