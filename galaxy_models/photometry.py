"""Magnitudes, and the colour stretch of the survey's viewer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ZERO_POINT = 22.5
"""AB magnitude of one nanomaggy."""

VIEWER_SCALES = {"g": 6.0, "r": 3.4, "i": 3.0, "z": 2.2}
VIEWER_GAIN_WITH_I = 1.5
"""Pictures with i (DR10) are shown so much brighter than those of g, r, z (DR9)."""

EXTINCTION = {"g": 3.214, "r": 2.165, "i": 1.592, "z": 1.211}
"""Magnitudes of Galactic extinction per E(B-V) in the bands of DECam, as the Legacy Surveys apply them (Schlafly and
Finkbeiner 2011)."""

VIEWER_SOFTENING = 0.03
VIEWER_Q = 20.0


def magnitude(flux: Tensor) -> Tensor:
    """AB magnitude of a flux in nanomaggies; NaN where the flux is not positive."""
    return torch.where(flux > 0, ZERO_POINT - 2.5 * torch.log10(flux), torch.nan)


def transmission(reddening: Tensor, bands: Sequence[str]) -> Tensor:
    """Share of the light that passes the Galaxy's dust, 10^(-0.4 k_b E(B-V)); above one if the reddening is taken away.

    Parameters
    ----------
    reddening
        (N,) E(B-V), or a difference of two.
    bands
        C of g, r, i, z.

    Returns
    -------
    Tensor
        (N, C).
    """
    unknown = [band for band in bands if band not in EXTINCTION]
    if unknown:
        raise ValueError(f"extinction is known in the bands {sorted(EXTINCTION)}, not in {unknown}")
    magnitudes = reddening[:, None] * reddening.new_tensor([EXTINCTION[band] for band in bands])
    return torch.pow(10.0, -0.4 * magnitudes)


def viewer_rgb(flux: Tensor, bands: Sequence[str]) -> Tensor:
    """The colour picture that the Legacy Surveys viewer shows.

    Parameters
    ----------
    flux
        (N, 3, H, W), nanomaggies per pixel.
    bands
        The three bands, blue to red, such as (g, r, z); the reddest becomes R.

    Returns
    -------
    Tensor
        (N, 3, H, W) float32 in 0..1, channels R, G, B.

    Notes
    -----
    With s_b the band's scale (one and a half times as large if i is among the bands), m = 0.03 and Q = 20, after
    Lupton et al. (2004) as the viewer has it:
    I is the mean over bands of max(0, s_b F_b + m), and each channel is
    (s_b F_b + m) asinh(Q I) / (sqrt(Q) I), clipped to 0..1.
    """
    unknown = [band for band in bands if band not in VIEWER_SCALES]
    if len(bands) != 3 or unknown:
        raise ValueError(f"the viewer stretch needs three of the bands {sorted(VIEWER_SCALES)}, not {list(bands)}")
    gain = VIEWER_GAIN_WITH_I if "i" in bands else 1.0
    scales = flux.new_tensor([gain * VIEWER_SCALES[band] for band in bands]).view(1, 3, 1, 1)
    scaled = flux * scales + VIEWER_SOFTENING
    intensity = scaled.clamp_min(0).mean(dim=1, keepdim=True)
    intensity = torch.where(intensity == 0, torch.full_like(intensity, 1e-6), intensity)
    factor = torch.asinh(VIEWER_Q * intensity) / (VIEWER_Q**0.5 * intensity)
    rgb: Tensor = (scaled * factor).clamp(0, 1).flip(1)
    return rgb
