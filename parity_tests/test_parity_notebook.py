"""The notebook about parity runs on a CPU, with a small model and few steps."""


def test_the_notebook_finds_both_frameworks_equal(open_notebook, tmp_path):
    name = "resnet_tiny"
    cells = open_notebook("parity/parity.ipynb", MODEL=name, CURVES=name, STEPS=12)
    said = cells()
    assert said.count("equal: each of") == 3  # float64, float32, and the losses
    assert "resnet_tiny: logits up to" in said
    assert (tmp_path / "losses.png").exists()
