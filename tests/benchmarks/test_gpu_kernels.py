"""Kernels are told apart by their names, and their time is a share of the time between start and stop."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.benchmarks.gpu_kernels import KernelClock, kind_of


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("nvjet_tst_128x256_64x4_2x1_v_bz_TNT", "matrix"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "matrix"),
        ("sm80_xmma_wgrad_implicit_gemm_indexed_bf16", "convolution"),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention)", "attention"),
        ("triton_red_fused_convolution_native_layer_norm_12", "compiled"),
        ("void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor>", "optimiser"),
        ("Memcpy HtoD (Pinned -> Device)", "copy"),
        ("void at::native::grid_sampler_2d_kernel", "other"),
    ],
)
def test_a_kernel_is_of_the_kind_that_its_name_tells(kernel: str, kind: str) -> None:
    assert kind_of(kernel) == kind


def test_shares_are_of_the_whole_time_and_the_longest_come_first() -> None:
    spent = {"nvjet_a": 2e5, "nvjet_b": 1e5, "Memset": 1e5}
    events = [
        SimpleNamespace(key=key, self_device_time_total=value, is_user_annotation=False) for key, value in spent.items()
    ] + [SimpleNamespace(key="## a range ##", self_device_time_total=4e5, is_user_annotation=True)]
    clock = KernelClock()
    clock.seconds = 0.8
    clock.profiler = SimpleNamespace(key_averages=lambda: events)
    assert clock.shares() == pytest.approx({"matrix": 0.375, "copy": 0.125})
    assert clock.longest(1) == [("nvjet_a", pytest.approx(0.25))]
