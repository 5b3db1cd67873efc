"""gpuroom plan: whether models fit, where their parts lie, how fast they are; and what it says of bad input."""

import json
import re
import struct

import pytest
from conftest import SOURCE

MODELS = SOURCE / "tests" / "model" / "configs"
GIB = 1 << 30
# The H200 on which docs/measurements.md has its figures.
H200 = {
    "gpu": "NVIDIA H200", "gpus": 8, "hbm_bytes": 143167 << 20, "host_bytes": 512 * GIB,
    "device_bytes_per_second": 4_560_000_000_000, "host_bytes_per_second": 51_300_000_000,
}  # fmt: skip
# The models of docs/measurements.md (tests/gpu/vllm/models.py): 24 layers are "large", 8 "small".
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "head_dim": 128, "vocab_size": 32000, "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 131072, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.fixture
def machine(tmp_path):
    path = tmp_path / "h200.json"
    path.write_text(json.dumps(H200))
    return path


@pytest.fixture
def plan(gpuroom, machine):
    """plan(MODEL, option, ...) is the JSON of a plan for the H200; `status` is what it ends with."""

    def make(model, *options, status=0):
        done = gpuroom("plan", model, "--machine", machine, "--json", *options)
        assert done.returncode == status, done
        return json.loads(done.stdout)

    return make


@pytest.fixture
def large(tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "config.json").write_text(json.dumps(LLAMA))
    return tmp_path / "large"


def parts(done):
    return {part["part"]: part for part in done["parts"]}


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_what_fits_lies_in_hbm(plan, engine):
    done = plan(MODELS / "llama-3.1-8b", "--engine", engine)
    assert done["verdict"] == "fits_in_hbm"
    assert all(part["host_bytes"] == 0 for part in done["parts"])
    assert done["model"]["bytes"] == 2 * 8_030_261_248
    assert parts(done)["KV cache"]["bytes"] == 8192 * (128 << 10)
    assert done["decode"]["upper_bound"]
    # Embeddings are read by row, all else as a whole.
    read = sum(part["step_hbm_bytes"] for part in done["parts"])
    assert read == pytest.approx(2 * (8_030_261_248 - 128255 * 4096) + 8192 * (128 << 10), rel=1e-6)
    assert done["decode"]["step_seconds"] == pytest.approx(read / 4.56e12)


def measured(name, work, day="2026-11-30"):
    cases = json.loads((SOURCE / "docs" / "measurements" / f"{day}-vllm.json").read_text())["cases"]
    return next(case for case in cases if case["name"] == name)["works"][work]


def test_decoding_as_it_was_measured(plan, large):
    """vLLM's one sequence of the large model in 8 GiB, with a cache of 10,912 tokens (1 GiB): bytes on the host within 2% of what
    was measured, and the time of a step within 10%."""
    done = plan(large, "--hbm-limit", "8GiB", "--host-limit", "40GiB", "--context", "10912")
    assert done["verdict"] == "fits_with_host_memory"
    on_host = sum(part["host_bytes"] for part in done["parts"]) / (1 << 20)
    assert on_host == pytest.approx(3882, rel=0.02)  # docs/measurements.md
    step_ms = measured("large_8_kv1", "one", "2026-12-01")["step_ms"]
    assert done["decode"]["step_seconds"] * 1e3 == pytest.approx(step_ms, rel=0.1)
    assert not done["decode"]["upper_bound"]


def test_prompts_as_they_were_measured(plan, large):
    """Four prompts of 2,048 tokens: within 25%, all in HBM and with weights on the host."""
    prompts = ("--context", "2048", "--batch", "4")
    bare = plan(large, *prompts)
    assert bare["prefill"]["tokens_per_second"] == pytest.approx(measured("large_bare", "prefill")["prefill_tok_s"], rel=0.25)
    spilled = plan(large, *prompts, "--hbm-limit", "8GiB")
    assert spilled["prefill"]["tokens_per_second"] == pytest.approx(measured("large_8", "prefill")["prefill_tok_s"], rel=0.25)


def test_the_plug_in_itself_places_weights(plan, large):
    """Embeddings leave first, then whole matrices; the head stays."""
    done = parts(plan(large, "--hbm-limit", "8GiB"))
    assert done["embeddings"]["hbm_bytes"] == 0
    assert done["output head"]["host_bytes"] == 0
    assert done["dense"]["host_bytes"] % (4096 * 2) == 0
    assert done["dense"]["host_bytes"] > 3 * GIB


def test_transformers_keep_what_came_last(plan, large):
    """The oldest gives way: the cache, which is last, stays in HBM."""
    done = parts(plan(large, "--hbm-limit", "8GiB", "--engine", "transformers"))
    assert done["KV cache"]["host_bytes"] == 0
    assert done["embeddings"]["hbm_bytes"] == 0
    assert done["output head"]["host_bytes"] == 0


@pytest.mark.parametrize("layers, width, measured_gib", [(28, 14528, 6.13), (17, 14592, 1.62)])
def test_transformers_bytes_as_they_were_measured(plan, tmp_path, layers, width, measured_gib):
    """Steps generate_2 and generate_1_25 (docs/measurements.md): bytes on the host within 2% of the model's."""
    config = dict(LLAMA, num_hidden_layers=layers, intermediate_size=width)
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = plan(tmp_path, "--engine", "transformers", "--hbm-limit", "6GiB", "--host-limit", "16GiB", "--context", "128")
    on_host = sum(part["host_bytes"] for part in done["parts"])
    assert on_host / GIB == pytest.approx(measured_gib, abs=0.02 * done["model"]["bytes"] / GIB)
    assert done["decode"]["upper_bound"]


def test_what_fits_nowhere(plan, gpuroom, machine, large):
    done = plan(large, "--hbm-limit", "2GiB", "--host-limit", "1GiB", status=1)
    assert done["verdict"] == "does_not_fit"
    assert done["short_bytes"] > 5 * GIB
    assert done["command"] is None and done["decode"] is None
    text = gpuroom("plan", large, "--machine", machine, "--hbm-limit", "2GiB", "--host-limit", "1GiB").stdout
    assert "It does not fit" in text and "--tp" in text


def test_a_speed_takes_so_much_hbm(plan, large):
    asked = ("--hbm-limit", "6GiB", "--context", "2048")
    slow = plan(large, *asked, "--target-tps", "20")
    fast = plan(large, *asked, "--target-tps", "60")
    assert 6 * GIB < slow["target"]["hbm_bytes"] < fast["target"]["hbm_bytes"] < 14 * GIB
    reached = plan(large, "--context", "2048", "--hbm-limit", str(slow["target"]["hbm_bytes"]))
    assert reached["decode"]["tokens_per_second"] >= 20
    assert plan(large, *asked, "--target-tps", "100000")["target"]["hbm_bytes"] is None


def test_experts_are_read_in_part(plan):
    done = parts(plan(MODELS / "gpt-oss-120b"))
    assert done["experts"]["step_hbm_bytes"] == pytest.approx(done["experts"]["bytes"] * 4 / 128, rel=1e-6)
    many = parts(plan(MODELS / "gpt-oss-120b", "--batch", "256"))
    assert many["experts"]["step_hbm_bytes"] > 0.99 * many["experts"]["bytes"]


def test_a_mixture_of_361_gib_on_grace(gpuroom, tmp_path):
    """Where the experts lie, on a machine that this is not."""
    config = dict(json.loads((MODELS / "qwen3-235b-a22b" / "config.json").read_text()), num_hidden_layers=77)
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = gpuroom("plan", tmp_path, "--machine", "gh200-egm", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["machine"]["host_bytes"] == 472 * GIB
    assert plan["model"]["bytes"] / GIB == pytest.approx(361, rel=0.01)
    experts = parts(plan)["experts"]
    assert experts["host_bytes"] > 200 * GIB and experts["hbm_bytes"] > 0
    text = gpuroom("plan", tmp_path, "--machine", "gh200-egm").stdout
    assert re.search(r"^experts +3\d\d GiB", text, re.MULTILINE)


def test_a_copy_of_a_machine(gpuroom):
    done = gpuroom("plan", MODELS / "gpt-oss-120b", "--sysroot", SOURCE / "tests/fixtures/gh200-egm", "--json")
    assert done.returncode == 0, done.stderr
    machine = json.loads(done.stdout)["machine"]
    assert machine["gpu"] == "NVIDIA GH200 480GB"
    assert machine["host_bytes_per_second"] == 350_000_000_000


def test_a_plan_is_a_machine_file(gpuroom, plan, tmp_path):
    first = plan(MODELS / "phi-4")
    (tmp_path / "plan.json").write_text(json.dumps(first))
    again = gpuroom("plan", MODELS / "phi-4", "--machine", tmp_path / "plan.json", "--json")
    assert json.loads(again.stdout)["decode"] == first["decode"]


def test_splitting_divides_weights_and_cache(plan):
    one, four = plan(MODELS / "llama-3.1-8b"), plan(MODELS / "llama-3.1-8b", "--tp", "4")
    assert parts(four)["KV cache"]["bytes"] * 4 == parts(one)["KV cache"]["bytes"]
    assert parts(four)["dense"]["bytes"] == pytest.approx(parts(one)["dense"]["bytes"] / 4, rel=0.01)
    # Latent attention's cache is whole on every GPU.
    cache = [parts(plan(MODELS / "deepseek-v2-lite", *tp))["KV cache"]["bytes"] for tp in ((), ("--tp", "4"))]
    assert cache[0] == cache[1] == 8192 * 27 * 576 * 2


def test_types(plan):
    whole = plan(MODELS / "llama-3.1-8b", "--dtype", "float32")
    assert whole["model"]["bytes"] == 4 * 8_030_261_248
    small = plan(MODELS / "llama-3.1-8b", "--kv-dtype", "fp8")
    assert parts(small)["KV cache"]["bytes"] == 8192 * (64 << 10)


def test_the_command_to_run(plan, large):
    done = plan(large, "--hbm-limit", "8GiB", "--batch", "2", "--context", "4096", "--kv-dtype", "fp8", "--dtype", "float16")
    cache = parts(done)["KV cache"]["bytes"]
    assert done["command"] == (
        f"gpuroom run --hbm-limit 8GiB -- vllm serve {large} --max-model-len 4096 --max-num-seqs 2 --dtype float16"
        f" --kv-cache-dtype fp8 --kv-cache-memory-bytes {cache}"
    )
    assert plan(large, "--engine", "transformers")["command"] == "gpuroom run -- python your_program.py"


def test_every_input_is_shown(gpuroom, machine):
    text = gpuroom("plan", MODELS / "deepseek-v3", "--machine", machine, "--tp", "8", "--host-limit", "400GiB").stdout
    for words in ("671.03 billion parameters", "by the formula of its architecture", "host memory 50.0 GiB for each GPU",
                  "4560", "51 GB/s (given)", "split over 8 GPUs", "KV cache", "decode", "prefill", "989 Tflop/s at 60%"):  # fmt: skip
        assert words in text


def safetensors(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def test_no_more_than_headers_is_read(gpuroom, plan, large):
    """A file of 1 TiB, which is a hole behind its header."""
    name = "model.layers.0.mlp.down_proj.weight"
    header = {name: {"dtype": "BF16", "shape": [1 << 20, 1 << 19], "data_offsets": [0, 1 << 40]}}
    file = large / "model.safetensors"
    file.write_bytes(safetensors(header, 0))
    with open(file, "r+b") as hole:
        hole.truncate(8 + len(json.dumps(header)) + (1 << 40))
    assert plan(large, status=1)["model"]["bytes"] == 1 << 40


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["name a model: gpuroom plan MODEL"]),
        (["a", "b"], ["'b' is a second model"]),
        (["/dev/null/absent"], ["there is no file or folder '/dev/null/absent'", "name its folder"]),
        (["/"], ["has no config.json and no .gguf file"]),
        (["/dev/null"], ["is no model that can be read"]),
        (["m", "--context", "0"], ["--context '0' is not a whole number"]),
        (["m", "--batch", "x"], ["--batch 'x' is not a whole number"]),
        (["m", "--tp", "65"], ["--tp '65' is not a whole number from 1 to 64"]),
        (["m", "--engine", "vlm"], ["--engine 'vlm'", "did you mean 'vllm'"]),
        (["m", "--dtype", "int3"], ["--dtype 'int3'", "bfloat16"]),
        (["m", "--kv-dtype", "fp7"], ["--kv-dtype 'fp7'"]),
        (["m", "--target-tps", "nan"], ["--target-tps 'nan' is not a number of tokens"]),
        (["m", "--target-tps=-3"], ["--target-tps '-3'"]),
        (["m", "--machine", "h200", "--sysroot", "/"], ["leave one out"]),
        ([MODELS / "phi-4", "--machine", "h300"], ["--machine 'h300' is no file and no profile", "gh200"]),
        ([MODELS / "phi-4", "--machine", "h200", "--context", "16385"], ["--context 16385", "16384 tokens"]),
        ([MODELS / "phi-4", "--machine", "h200", "--tp", "2"], ["--tp 2 asks for more than the 1 GPU of profile h200"]),
        ([MODELS / "phi-4", "--sysroot", "/dev/null"], ["'/dev/null' is not a directory"]),
    ],
)
def test_bad_input(gpuroom, arguments, words):
    gpuroom.refuses(2, *words, arguments=["plan", *arguments])


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", ["is not JSON; write what 'gpuroom plan --json' prints"]),
        ("[]", ['"hbm_bytes"']),
        ('{"hbm_bytes": 17179869184}', ['no plausible "device_bytes_per_second"', "gpuroom bench tiers"]),
    ],
)
def test_bad_machine_files(gpuroom, tmp_path, text, words):
    (tmp_path / "machine.json").write_text(text)
    gpuroom.refuses(2, *words, arguments=["plan", MODELS / "phi-4", "--machine", tmp_path / "machine.json"])


def test_vllm_s_placing_needs_python(gpuroom, machine, large):
    done = gpuroom("plan", large, "--machine", machine, env={"PATH": "/nonexistent"})
    assert done.returncode == 1
    assert "install python3, or take --engine transformers" in done.stderr
    assert gpuroom("plan", large, "--machine", machine, "--engine", "transformers", env={"PATH": "/nonexistent"}).returncode == 0


def test_the_plug_in_s_smallest_weight_is_the_same():
    """_offline.py cannot import _modules.py, which needs PyTorch."""
    folder = SOURCE / "python" / "gpuroom" / "vllm"
    least = re.compile(r"^LEAST = (.*?)  #", re.MULTILINE)
    assert len({least.search((folder / name).read_text()).group(1) for name in ("_modules.py", "_offline.py")}) == 1
