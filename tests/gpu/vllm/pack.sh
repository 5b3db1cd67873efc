#!/bin/bash
# Packs a vLLM that serves a dense Llama on a Hopper GPU into CARRY/vllm (38 MiB): pack.sh CARRY [WORK]
# For a GPU machine without a network, whose Python 3.12 has torch 2.11 and transformers. Needs a Python 3.12 with pip
# (PYTHON312 names it), unzip, zstd, strip and a network; some 8 minutes of one core.
set -eu
carry=$(realpath -m "$1")/vllm work=$(realpath -m "${2:-/tmp/vllm_pack}") here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$carry" "$work" && cd "$work"
[ -d python ] || "${PYTHON312:-python3.12}" -m venv python
. python/bin/activate
pip install -q --upgrade pip
at="--only-binary=:all: --python-version 3.12 --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64"
pip download -q --no-deps $at -d wheels vllm==0.26.0 zstandard  # the newest vLLM that needs torch 2.11
rm -rf whole part site && mkdir whole part site
(cd whole && unzip -q -o ../wheels/vllm-0.26.0*.whl)
# Without what a dense Llama on Hopper does not load: other attention kernels, other languages, benchmarks.
(cd whole && tar cf - --exclude='vllm/vllm-rs' --exclude='vllm/third_party/deep_gemm' --exclude='vllm/third_party/fmha_sm100' \
  --exclude='vllm/_flashmla*' --exclude='_qutlass*' --exclude='_vllm_fa2_C*' --exclude='_rust_tool_parser*' \
  --exclude='vllm/model_executor/layers/fused_moe/configs' --exclude='vllm/benchmarks/*' vllm vllm-0.26.0.dist-info) | tar xf - -C part
for file in _C_stable_libtorch.abi3.so _moe_C_stable_libtorch.abi3.so vllm_flash_attn/_vllm_fa3_C.abi3.so; do
  python "$here/trim_fatbin.py" --keep 90 "whole/vllm/$file" "part/vllm/$file"
done
# What it imports and the image lacks.
pip install -q --no-deps --no-compile --target site pydantic==2.14.4 pydantic-core==2.50.5 annotated-types typing-inspection \
  fastapi==0.136.3 starlette==1.10.0 uvicorn==0.54.0 msgspec==0.23.0 blake3 cachetools pyzmq pybase64 cbor2 ijson setproctitle \
  python-json-logger depyf==0.20.0 astor dill compressed-tensors==0.17.0 openai==2.30.0 distro jiter sniffio openai-harmony \
  partial-json-parser prometheus-fastapi-instrumentator jsonschema referencing rpds-py jsonschema-specifications lark==1.2.2 \
  lm-format-enforcer==0.11.3 interegular mistral_common==1.13.1 gguf diskcache nvtx==0.2.15 watchfiles \
  model-hosting-container-standards python-multipart pydantic-extra-types pycountry jmespath llguidance==1.7.6 xgrammar==0.2.1 \
  outlines_core==0.2.14 apache-tvm-ffi==0.1.10
rm -rf site/bin site/mistral_common/data site/pycountry/locales site/xgrammar/lib
find site -name '*.pyi' -delete
find site -name '*.so*' -size +1M -exec strip --strip-unneeded {} + || true
find site part -name __pycache__ -type d -prune -exec rm -rf {} +
tar cf - -C site . -C ../part . | zstd -19 --long=27 -T1 -q -f -o "$carry/vllm.tar.zst"
rm -rf "$carry/zs" && mkdir "$carry/zs" && (cd "$carry/zs" && unzip -q -o "$work"/wheels/zstandard*.whl && rm -rf ./*.dist-info)
find "$carry/zs" -name '*.so' -exec strip --strip-unneeded {} +
ls -la "$carry"
