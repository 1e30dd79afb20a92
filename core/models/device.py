"""Which device computes, and in which number format a frozen forward is fastest."""

from __future__ import annotations

import platform

import torch

from core.errors import MachineRefused


def resolve(wanted: str) -> torch.device:
    """The device that `compute.device` means on this machine.

    Raises: MachineRefused for a device that is not there.
    """
    if wanted == "auto":
        return torch.device(best())
    if wanted.startswith("cuda") and torch.cuda.is_available():
        number = int(wanted.partition(":")[2] or 0)
        if number < torch.cuda.device_count():
            return torch.device("cuda", number)
    elif wanted == "cpu" or (wanted == "mps" and torch.backends.mps.is_available()):
        return torch.device(wanted)
    raise MachineRefused(
        f"This machine has no device {wanted}.", "Set compute.device to auto or cpu."
    )


def best() -> str:
    """The fastest kind of device here."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def title(device: torch.device) -> str:
    """What a person calls the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware itself computes in bf16, as the libraries that use it say.

    Elsewhere bf16 is emulated: it works, and is slower than fp32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return True
    # oneDNN's own answer is that of the hardware on ARM alone; on x86 it counts emulation too.
    arm = platform.machine().lower() in ("aarch64", "arm64")
    return arm and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def forward_dtype(device: torch.device) -> torch.dtype:
    """The fastest number format for frozen forwards: 16 bits where the hardware has them.

    On processors other than x86 it was not measured and stays fp32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if has_bf16(device) else torch.float16
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32
