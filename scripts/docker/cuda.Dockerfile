# Switchyard for NVIDIA GPUs, built from a clone of the repository:
#
#   docker build -f scripts/docker/cuda.Dockerfile -t switchyard:cuda .
#   docker run --rm --gpus all -v "$PWD:/work" switchyard:cuda train run.yaml
#
# This file does not build yet, and has been linted but never run:
#
# - scripts/build_cuda.sh is missing: the last step of the build stage waits for it;
# - third_party/requirements.txt pins LibTorch for the CPU; the CUDA wheel needs a list of its own.
#
# CUDA's images are Ubuntu's: names and versions of packages are those of 24.04, not of
# Debian 12. The rest is as in cpu.Dockerfile.
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04 AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cu130
WORKDIR /opt/switchyard
COPY third_party third_party
COPY scripts/install.sh scripts/lib.sh scripts/
RUN scripts/install.sh
COPY CMakeLists.txt CMakePresets.json ./
COPY src src
COPY scripts scripts
RUN scripts/build_cuda.sh
# What the program loads from the Python packages: LibTorch, and CUDA's libraries that pip brings.
RUN mkdir lib \
  && ldd build/cuda/switchyard | awk '/site-packages/ { print $3 }' | xargs cp --target-directory=lib \
  && strip build/cuda/switchyard

FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04 AS runtime
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    libopenmpi3t64 libpcre2-8-0 libyaml-cpp0.8 openmpi-bin openssh-client openssh-server \
  && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_* \
  && { userdel --remove ubuntu || true; } \
  && useradd --create-home --uid 1000 --shell /bin/bash switchyard \
  && install -d -o switchyard -m 700 /home/switchyard/.ssh && mkdir -p /run/sshd
COPY --from=build /opt/switchyard/lib /opt/switchyard/lib
COPY --from=build /opt/switchyard/build/cuda/switchyard /usr/local/bin/switchyard
COPY configs /opt/switchyard/configs
COPY scripts/launch.sh /opt/switchyard/scripts/launch.sh
COPY scripts/docker/ssh_config /etc/ssh/ssh_config.d/switchyard.conf
COPY --chown=switchyard scripts/docker/sshd_config /home/switchyard/.sshd_config
RUN echo /opt/switchyard/lib > /etc/ld.so.conf.d/switchyard.conf && ldconfig
USER 1000
WORKDIR /work
EXPOSE 2222
ENTRYPOINT ["switchyard"]
CMD ["--help"]
