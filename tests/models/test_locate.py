from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from alignlab.errors import BadInput
from alignlab.models import gguf as gguf_models
from alignlab.models.facts import model_facts
from alignlab.models.load import load, save
from alignlab.models.locate import locate, packaged
from tests.models.gguf_files import TOKENS, dequantised, tiny_llama, write_gguf
from tests.models.helpers import TEMPLATE, tiny_lm

IDS = torch.tensor([[5, 6, 7, 8, 260]])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    pytest.importorskip("gguf", reason="pip install 'alignlab[gguf]'")
    monkeypatch.setenv("ALIGNLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_float_file_gives_the_model_that_it_was_made_from(tmp_path):
    model = tiny_llama()
    lm = load(write_gguf(tmp_path / "m.gguf", model, template=TEMPLATE))
    torch.testing.assert_close(lm.model(IDS).logits, model(IDS).logits, rtol=0, atol=1e-6)
    assert lm.stored == torch.float32
    assert lm.tokenizer.chat_template == TEMPLATE
    assert lm.tokenizer("hello", add_special_tokens=False)["input_ids"] == [
        TOKENS.index("he"), TOKENS.index("ll"), TOKENS.index("o")
    ]  # fmt: skip
    assert not getattr(lm.model, "is_quantized", False)
    assert "quantization_config" not in json.loads(
        (locate(tmp_path / "m.gguf") / "config.json").read_text()
    )


def test_a_quantised_file_is_dequantised_to_bfloat16(tmp_path):
    model = tiny_llama()
    lm = load(write_gguf(tmp_path / "m.gguf", model, template=TEMPLATE, quantise=True))
    assert lm.stored == torch.bfloat16
    expected = dequantised(model.model.layers[1].mlp.up_proj.weight.data)
    found = lm.model.model.layers[1].mlp.up_proj.weight
    torch.testing.assert_close(found.double(), expected.to(torch.bfloat16).double())
    assert not torch.equal(expected.float(), model.model.layers[1].mlp.up_proj.weight.data)


def test_a_file_is_converted_once_and_again_when_it_changes(tmp_path, cache, monkeypatch):
    file = write_gguf(tmp_path / "m.gguf", tiny_llama(), template=TEMPLATE)
    first = locate(file)
    assert first.parent.parent == cache
    with monkeypatch.context() as patched:
        patched.setattr(gguf_models, "_convert", lambda *_: pytest.fail("converted twice"))
        assert locate(file) == first
        copy = tmp_path / "copy.gguf"
        copy.write_bytes(file.read_bytes())
        assert locate(copy) == first
    other = write_gguf(tmp_path / "m.gguf", tiny_llama(seed=1), template=TEMPLATE)
    assert locate(other) != first
    assert not list(cache.rglob("*.tmp"))


def test_training_saves_safetensors_with_the_tokenizer_of_the_file(tmp_path):
    lm = load(write_gguf(tmp_path / "m.gguf", tiny_llama(), template=TEMPLATE, quantise=True))
    folder = save(lm, tmp_path / "saved")
    again = load(folder)
    assert torch.equal(again.model(IDS).logits, lm.model(IDS).logits)
    assert again.tokenizer.chat_template == TEMPLATE
    assert {f.suffix for f in folder.iterdir()} == {".json", ".jinja", ".safetensors"}


@pytest.mark.parametrize("case", ["text", "torn", "no weights", "part", "no file"])
def test_what_is_no_whole_model_is_one_line_and_leaves_nothing(tmp_path, cache, case):
    file = tmp_path / ("m-00001-of-00002.gguf" if case == "part" else "m.gguf")
    if case == "text":
        file.write_text("not a model")
    elif case != "no file":
        without = "blk.1.ffn_up.weight" if case == "no weights" else ""
        write_gguf(file, tiny_llama(), template=TEMPLATE, without=without)
    if case == "torn":
        file.write_bytes(file.read_bytes()[:-20000])
    with pytest.raises(BadInput, match=r"expected a (whole )?GGUF file") as caught:
        load(file)
    assert "\n" not in str(caught.value)
    assert case != "no weights" or "up_proj" in str(caught.value)
    assert not [f for f in cache.rglob("*") if f.is_dir() and f != cache / "models"]


def test_without_the_package_the_refusal_names_it(tmp_path, monkeypatch):
    file = write_gguf(tmp_path / "m.gguf", tiny_llama())
    monkeypatch.setattr(gguf_models.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install 'alignlab\[gguf\]'"):
        locate(file)


def test_a_file_without_a_template_takes_a_named_one(tmp_path):
    file = write_gguf(tmp_path / "m.gguf", tiny_llama())
    with pytest.raises(BadInput, match="no chat template; choose chat_template=FILE"):
        model_facts(file)
    assert load(file, chat_template="chatml").added == ()  # the file has both tokens
    assert model_facts(file, chat_template="zephyr").vocabulary == len(TOKENS)


def package(tmp_path, monkeypatch, files):
    """Install a package whose code fails when it is run."""
    place = tmp_path / "site"
    info = place / "tiny_pack-1.0.dist-info"
    info.mkdir(parents=True)
    inside = place / "tiny_pack"
    inside.mkdir()
    (inside / "__init__.py").write_text("raise SystemExit('code of the package was run')")
    for name, model in files.items():
        write_gguf(inside / name, model, template=TEMPLATE)
    names = ["__init__.py", *files, "gone.gguf"]
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-pack\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"tiny_pack/{name},,\n" for name in names))
    monkeypatch.syspath_prepend(place)


def test_a_packages_model_is_read_and_its_code_is_not_run(tmp_path, monkeypatch):
    model = tiny_llama()
    package(tmp_path, monkeypatch, {"model.gguf": model})
    lm = load("package:tiny-pack")
    torch.testing.assert_close(lm.model(IDS).logits, model(IDS).logits, rtol=0, atol=1e-6)
    assert (lm.name, lm.model.name_or_path) == ("package:tiny-pack", "package:tiny-pack")
    assert "tiny_pack" not in sys.modules
    assert model_facts("package:tiny_pack").kind == "llama"


def test_a_package_with_several_models_or_none_is_refused(tmp_path, monkeypatch):
    package(tmp_path, monkeypatch, {"a.gguf": tiny_llama(), "b.gguf": tiny_llama(seed=1)})
    with pytest.raises(BadInput, match=r"one model in the package, found .*a\.gguf, .*b\.gguf"):
        packaged("tiny-pack")
    with pytest.raises(BadInput, match="one model in the package, found none"):
        packaged("pytest")
    with pytest.raises(BadInput, match="expected an installed package, found none"):
        packaged("no-such-package")


def test_a_package_may_hold_a_folder(tmp_path, monkeypatch):
    package(tmp_path, monkeypatch, {})
    folder = save(tiny_lm(), tmp_path / "site" / "tiny_pack" / "weights")
    record = tmp_path / "site" / "tiny_pack-1.0.dist-info" / "RECORD"
    record.write_text("tiny_pack/weights/config.json,,\ntiny_pack/weights/model.safetensors,,\n")
    assert packaged("tiny-pack") == folder


def test_a_folder_of_gguf_files_names_one(tmp_path):
    file = write_gguf(tmp_path / "m.gguf", tiny_llama())
    with pytest.raises(BadInput, match=f"name one: {file}"):
        locate(tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("GatedRepoError", "accept its terms"),
        ("RepositoryNotFoundError", "no such repository, or a private one"),
        ("LocalEntryNotFoundError", "the hub cannot be reached"),
        ("HFValidationError", "Repo id"),
    ],
)
def test_a_hub_that_gives_no_files_is_one_line(monkeypatch, error, said):
    import httpx
    import huggingface_hub
    from huggingface_hub import errors

    answer = httpx.Response(403, request=httpx.Request("GET", "https://hub.test/x"))
    kind = getattr(errors, error)
    made = kind("Repo id\nmore") if error[0] in "LH" else kind("401 Client\n", response=answer)

    def fail(*_, **__):
        raise made

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(BadInput, match=said) as caught:
        locate("owner/model")
    assert "\n" not in str(caught.value)


def test_a_gguf_file_of_a_hub_repository(tmp_path, monkeypatch):
    import huggingface_hub

    file = write_gguf(tmp_path / "m.gguf", tiny_llama())
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *names: asked.append(names) or str(file)
    )
    assert locate("owner/model-GGUF/q/m.gguf") == locate(file)
    assert asked == [("owner/model-GGUF", "q/m.gguf")]


def test_two_processes_convert_a_file_once(tmp_path, cache):
    file = write_gguf(tmp_path / "m.gguf", tiny_llama(), template=TEMPLATE)
    code = f"from alignlab.models.locate import locate; print(locate({str(file)!r}))"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True)
        for _ in range(2)
    ]
    ended = [process.communicate() for process in running]
    assert len({out.strip().splitlines()[-1] for out, _ in ended}) == 1
    assert sum("converted once" in err for _, err in ended) == 1
