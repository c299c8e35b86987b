# Switchyard for NVIDIA GPUs, built from a clone of the repository; the host needs a driver for
# CUDA 13 (580 or newer) and NVIDIA's container toolkit:
#
#   docker build -f scripts/docker/cuda.Dockerfile -t switchyard:cuda .
#   docker run --rm --gpus all -v "$PWD:/work" switchyard:cuda train run.yaml --set train.device=cuda
#
# Compiler and CUDA's libraries come from pip and not from a base image: LibTorch, nvcc and
# libraries agree, and both stages are Debian's as in cpu.Dockerfile.
FROM debian:12-slim AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /opt/switchyard
# The lists first: a change of a source does not install anything again.
COPY third_party third_party
COPY scripts/install.sh scripts/lib.sh scripts/
RUN scripts/install.sh --cuda
COPY CMakeLists.txt CMakePresets.json ./
COPY src src
COPY scripts scripts
RUN scripts/build_cuda.sh --portable
# What the program loads from the Python packages, and what these load by name: parts of
# cuDNN, and the run-time compiler.
# hadolint ignore=DL3003
RUN mkdir lib \
  && ldd build/cuda/switchyard | awk '/site-packages/ { print $3 }' | xargs cp --target-directory=lib \
  && cd "$(cat build/cuda/environment)"/lib/python3.*/site-packages \
  && cp torch/lib/libcaffe2_nvrtc.so nvidia/cu13/lib/libnvrtc*.so.* nvidia/cudnn/lib/*.so.* /opt/switchyard/lib \
  && strip /opt/switchyard/build/cuda/switchyard

FROM debian:12-slim AS runtime
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# What NVIDIA's container toolkit brings in from the host.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# Debian 12 pins the versions; libopenmpi3 and the rest are what `ldd` asks for.
# hadolint ignore=DL3008
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    libcpp-httplib0.11 libopenmpi3 libpcre2-8-0 libyaml-cpp0.7 openmpi-bin openssh-client openssh-server \
  && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_* \
  && useradd --create-home --uid 1000 --shell /bin/bash switchyard \
  && install -d -o switchyard -m 700 /home/switchyard/.ssh && mkdir -p /run/sshd
COPY --from=build /opt/switchyard/lib /opt/switchyard/lib
COPY --from=build /opt/switchyard/build/cuda/switchyard /usr/local/bin/switchyard
COPY configs /opt/switchyard/configs
COPY scripts/launch.sh /opt/switchyard/scripts/launch.sh
COPY scripts/docker/ssh_config /etc/ssh/ssh_config.d/switchyard.conf
COPY --chown=switchyard scripts/docker/sshd_config /home/switchyard/.sshd_config
# By ld.so.conf and not by LD_LIBRARY_PATH: ranks that come by ssh get no environment.
RUN echo /opt/switchyard/lib > /etc/ld.so.conf.d/switchyard.conf && ldconfig && switchyard --version
USER 1000
WORKDIR /work
EXPOSE 2222
ENTRYPOINT ["switchyard"]
CMD ["--help"]
