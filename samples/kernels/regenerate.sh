#!/bin/sh
# Regenerates kernels.ptx from kernels.cu. Needs nvcc of CUDA 13.0, so that the
# PTX version is one which the oldest supported driver (580) understands; the
# target is Turing, from which every later GPU's driver compiles at load time.
set -eu
cd "$(dirname "$0")"
nvcc -std=c++17 -O3 -ptx -arch=compute_75 -o kernels.ptx kernels.cu
