# docker buildx bake -f containers/docker-bake.hcl [TARGET]; --print shows what would be built.
# Variables come from the environment: REGISTRY=registry.example/team VLLM_VERSION=0.26.0 IMAGE_SUFFIX=-cu13 docker buildx bake ...

variable "REGISTRY" {
  default = ""
}

variable "VLLM_VERSION" {
  default = "0.26.0"
}

# Empty: the version of vLLM, and "latest" for gpuroom.
variable "IMAGE_TAG" {
  default = ""
}

variable "IMAGE_SUFFIX" {
  default = ""
}

variable "BASE_IMAGE" {
  default = "nvcr.io/nvidia/pytorch:25.12-py3@sha256:1dc787f5c6264fcc1c99809f99b84823e73ed4588d5a581b94290fc2a8fecff8"
}

# "10.0a" for Blackwell, "12.1a" for GB10.
variable "CUDA_ARCHITECTURES" {
  default = "9.0a"
}

variable "MAX_JOBS" {
  default = "auto"
}

variable "PLATFORMS" {
  default = "linux/amd64,linux/arm64"
}

function "tag" {
  params = [name, version]
  result = ["${REGISTRY == "" ? "" : "${REGISTRY}/"}${name}:${IMAGE_TAG == "" ? version : IMAGE_TAG}${IMAGE_SUFFIX}"]
}

group "default" {
  targets = ["vllm"]
}

group "all" {
  targets = ["vllm", "lmcache", "gpuroom"]
}

target "common" {
  context   = "."
  platforms = split(",", PLATFORMS)
  args = {
    MAX_JOBS = MAX_JOBS
  }
}

target "vllm" {
  inherits   = ["common"]
  dockerfile = "containers/vllm/Dockerfile"
  tags       = tag("vllm-gpuroom", VLLM_VERSION)
  args = {
    BASE_IMAGE         = BASE_IMAGE
    CUDA_ARCHITECTURES = CUDA_ARCHITECTURES
    VLLM_VERSION       = VLLM_VERSION
  }
}

target "lmcache" {
  inherits   = ["common"]
  dockerfile = "containers/lmcache/Dockerfile"
  tags       = tag("lmcache-gpuroom", "latest")
  args = {
    BASE_IMAGE         = BASE_IMAGE
    CUDA_ARCHITECTURES = CUDA_ARCHITECTURES
  }
}

target "gpuroom" {
  inherits   = ["common"]
  dockerfile = "containers/gpuroom/Dockerfile"
  tags       = tag("gpuroom", "latest")
}
