"""The same path on a GPU: mixed precision, events, peak memory. Skipped without one."""

import json

import pytest
import torch
from tool_runs import SMALL_DEPTH, run, train_small

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: nothing was tested on a GPU"),
]


@pytest.mark.parametrize("amp", ["none", "bfloat16", "float16"])
def test_a_detector_trains_and_is_measured_on_the_gpu(tmp_path, amp):
    settings = ["--run.device=cuda", f"--optim.amp={amp}", "--optim.ema_decay=0.9"]
    folder = train_small(tmp_path, "gpu", *settings)
    done = run("eval", "detection", f"--checkpoint={folder}/best.pt", "--out=report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["facts"]["device"] == torch.cuda.get_device_name()
    found = {quantity["name"]: quantity["value"] for quantity in report["quantities"]}
    assert 0 < found["latency of backbone"] < found["latency median"]
    assert 0 < found["training memory of backbone, batch 2"] <= found["training memory, batch 2"]
    assert not any("cpu" in note for note in report["notes"])


def test_a_run_on_the_gpu_resumes_on_the_cpu(tmp_path):
    train_small(tmp_path, "moved", "--run.device=cuda", "--optim.epochs=2")
    train_small(tmp_path, "moved", "--run.device=cpu", "--optim.epochs=2", "--run.resume=true")


@pytest.mark.parametrize("head", ["sigmoid", "log_bins"])
@pytest.mark.parametrize("amp", ["none", "bfloat16", "float16"])
def test_a_depth_model_trains_is_measured_and_predicts_on_the_gpu(tmp_path, amp, head):
    settings = [*SMALL_DEPTH, "--run.device=cuda", f"--optim.amp={amp}", f"--model.head={head}", "--run.name=gpu"]
    for arguments in (
        ["train", "depth", *settings],
        ["eval", "depth", "--checkpoint=runs/gpu/best.pt", "--out=report"],
        [
            "predict",
            "depth",
            "--checkpoint=runs/gpu/best.pt",
            "--input=runs/data/road_val_4x32x64px_seed1/rgb",
            "--out=o",
        ],
    ):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    found = {quantity["name"]: quantity["value"] for quantity in report["quantities"]}
    assert report["facts"]["device"] == torch.cuda.get_device_name()
    assert 0 < found["latency of backbone"] < found["latency median"]
    assert 0 <= found["delta1"] <= 1
