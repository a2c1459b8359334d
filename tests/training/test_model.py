"""The torch side on a shape of four small layers; skipped where the extra `train` is not installed."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from llamacpp_tools.errors import BadInput  # noqa: E402
from llamacpp_tools.models.header import check_gguf  # noqa: E402
from training import trainer  # noqa: E402
from training.export import export, tile_heads, to_gguf  # noqa: E402
from training.model import build  # noqa: E402
from training.shape import MINIATURE  # noqa: E402
from training.trainer import Settings, load_model, start, train  # noqa: E402
from training.validate import report  # noqa: E402

SMALL = dataclasses.replace(
    MINIATURE, name="small", n_layer=4, n_embd=64, ssm_k_heads=2, ssm_v_heads=4, ssm_head_dim=32, n_vocab=400
)


@pytest.fixture(scope="module")
def model():
    return build(SMALL, 1).eval()


def test_the_shape_and_the_model_have_the_same_weights(model):
    assert sum(weight.numel() for weight in model.parameters()) == SMALL.n_params
    assert sum(weight.numel() for weight in build(MINIATURE, 1).parameters()) == MINIATURE.n_params


def test_the_mtp_block_sees_the_token_and_the_hidden_row_before_it(model):
    tokens = torch.arange(20).unsqueeze(0) + 50
    with torch.inference_mode():
        hidden = model.hidden(tokens)
        rows = model.drafted(tokens, hidden)
        other_token, other_row = tokens.clone(), hidden.clone()
        other_token[0, 10] = 99
        other_row[0, 10] += 1
        by_token = (model.drafted(other_token, hidden) - rows).abs().sum(dim=-1)[0]
        by_row = (model.drafted(tokens, other_row) - rows).abs().sum(dim=-1)[0]
    assert int((by_token > 1e-3).nonzero()[0]) == 10
    assert int((by_row > 1e-3).nonzero()[0]) == 11


def test_a_draft_row_predicts_the_token_after_its_own():
    model = build(SMALL, 2).train()
    tokens = torch.randint(0, 400, (2, 30))
    losses = model.losses(tokens, 2)
    with torch.inference_mode():
        rows = model.drafted(tokens, model.hidden(tokens))
        logits = model.logits(rows)[:, :-1].flatten(0, 1)
        expected = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
    assert float(losses.draft[0]) == pytest.approx(float(expected), rel=1e-5)
    assert len(losses.draft) == 2


def test_value_heads_are_tiled():
    values = np.array([["k0v0"], ["k0v1"], ["k1v0"], ["k1v1"]])
    assert tile_heads(values, 2, 4, 1)[:, 0].tolist() == ["k0v0", "k1v0", "k0v1", "k1v1"]
    rows = np.arange(8.0, dtype=np.float32)
    assert tile_heads(rows, 2, 4, 2).tolist() == [0, 1, 4, 5, 2, 3, 6, 7]


def test_norms_decays_and_convolutions_take_the_forms_of_llama_cpp(model):
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    arrays = to_gguf(SMALL, state)
    assert np.array_equal(
        arrays["blk.0.attn_norm.weight"], state["trunk.model.layers.0.input_layernorm.weight"] + 1
    )
    assert np.array_equal(
        arrays["blk.0.ssm_norm.weight"], state["trunk.model.layers.0.linear_attn.norm.weight"]
    )
    assert (arrays["blk.0.ssm_a"] < 0).all()
    assert arrays["blk.1.ssm_conv1d.weight"].shape == (2 * 64 + 128, 4)
    assert np.array_equal(arrays["blk.4.nextn.shared_head_norm.weight"], state["mtp.norm.weight"] + 1)
    assert np.array_equal(
        arrays["blk.3.ffn_up_exps.weight"], state["trunk.model.layers.3.mlp.experts.gate_up_proj"][:, 64:]
    )
    lacking = {name: value for name, value in state.items() if name != "trunk.lm_head.weight"}
    with pytest.raises(KeyError):
        to_gguf(SMALL, lacking)


@pytest.fixture
def quick(monkeypatch):
    """Forty steps of 4 rows of 128 tokens, a vocabulary of 400 from little text, one process."""
    monkeypatch.setattr(trainer, "TOKENIZER_CHARS", 60_000)
    monkeypatch.setattr("training.schedule.TOKENS_PER_STEP", 512)
    monkeypatch.setattr("training.schedule.WARMUP_STEPS", 5)
    monkeypatch.setattr("training.schedule.CURRICULUM", ((0.0, {128: 1.0}),))
    return Settings(tokens=40 * 512, workers=1)


def test_a_run_learns_and_its_export_is_a_model(tmp_path, quick):
    told: list[str] = []
    run = start(tmp_path / "run", SMALL, quick, resume=False)
    assert train(run, told.append)
    assert len(told) == 4
    first, last = run.history.records[0], run.history.records[-1]
    assert last.trunk < first.trunk - 0.2
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "run" / "history.json").read_text())["settings"]["tokens"] == 40 * 512
    model = load_model(tmp_path / "run", SMALL)
    for dtype in ("f32", "q8_0"):
        made = export(model, run.corpus.tokenizer, tmp_path / f"{dtype}.gguf", dtype)
        header = check_gguf(made.path)
        assert (header.arch, header.n_layer, header.n_layer_nextn) == ("qwen35moe", 4, 1)
        assert made.n_bytes == made.path.stat().st_size
    found = report(model, run.corpus, 300, 1, ("narrative",))["narrative"]
    assert found.by_position.keys() == {"0-256", "256-512"}
    assert 0 <= found.agreement[0] <= 1


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path, quick):
    whole = start(tmp_path / "whole", SMALL, quick, resume=False)
    train(whole, lambda _: None)
    broken = start(tmp_path / "broken", SMALL, quick, resume=False)
    train(broken, _raise_after(broken, 20))
    assert broken.state.step == 20
    resumed = start(tmp_path / "broken", SMALL, quick, resume=True)
    assert resumed.state == broken.state
    train(resumed, lambda _: None)
    assert resumed.state.step == whole.state.step
    assert len(resumed.history.records) == len(whole.history.records)
    theirs = dict(whole.model.named_parameters())
    for name, weight in resumed.model.named_parameters():
        assert torch.equal(weight, theirs[name]), name


def _raise_after(run, step):
    """A progress callback that sends this process SIGTERM after a step."""
    import os
    import signal

    def told(_: str) -> None:
        if run.state.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return told


def test_two_workers_give_the_mean_gradient_of_all_rows(tmp_path, quick):
    from training.schedule import RowShape
    from training.trainer import LOSS_WEIGHTS
    from training.workers import Workers

    run = start(tmp_path / "run", SMALL, quick, resume=False)
    gradients = {}
    for count, n_rows in ((1, 4), (2, 2)):
        workers = Workers(run.model, run.corpus, LOSS_WEIGHTS, count)
        try:
            workers.backward(3, RowShape(n_rows, 128))
        finally:
            workers.close()
        gradients[count] = torch.cat([weight.grad.flatten().clone() for weight in run.model.parameters()])
    scale = gradients[1].abs().max()
    # The balance loss is not linear in the rows, all else is.
    assert float((gradients[1] - gradients[2]).abs().max() / scale) < 2e-2


def test_a_checkpoint_is_never_written_over_by_accident(tmp_path, quick):
    run = start(tmp_path / "run", SMALL, quick, resume=False)
    run.save()
    with pytest.raises(BadInput, match="--resume"):
        start(tmp_path / "run", SMALL, quick, resume=False)
    with pytest.raises(BadInput, match="no checkpoint"):
        start(tmp_path / "other", SMALL, quick, resume=True)


def test_every_deltanet_head_begins_with_a_memory():
    layers = [
        layer.linear_attn for layer in build(SMALL, 3).trunk.model.layers if hasattr(layer, "linear_attn")
    ]
    assert layers
    kept = torch.cat(
        [torch.exp(-layer.A_log.exp() * torch.nn.functional.softplus(layer.dt_bias)) for layer in layers]
    )
    # The share of its state that a head keeps from one token to the next; transformers' own start keeps none.
    assert kept.min() > 0.15
    assert kept.max() < 1.0
