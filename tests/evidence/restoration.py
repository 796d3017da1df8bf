"""Restoration against Richardson-Lucy with the known PSF and a plain U-Net: on fluxes, and in display space.

What the papers do not tell is ours: simulated galaxies under the survey's best seeing and without noise are the truth;
they are dimmed by up to three magnitudes, blurred and made noisy as fine-tuning does it, and every method on fluxes is
told the kernel and the noise. PSNR is per band, with the truth's brightest pixel for the peak; mean of g, r and z.
"""

from __future__ import annotations

from tests.evidence.restoration_display import measure_display
from tests.evidence.restoration_fluxes import measure_fluxes
from tests.evidence.restoration_legacy import measure_legacy
from tests.evidence.restoration_sizes import SIZES
from tests.evidence.workbench import Workbench


def run(bench: Workbench) -> None:
    """Measure all methods on the same test stamps; print the figure, keep tables and pictures."""
    sizes = SIZES[bench.size]
    flux = measure_fluxes(bench, sizes)
    measure_legacy(bench, sizes, flux)
    measure_display(bench, sizes)
