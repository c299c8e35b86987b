# Switchyard for the CPU, built from a clone of the repository:
#
#   docker build -f scripts/docker/cpu.Dockerfile -t switchyard:cpu .
#   docker run --rm -v "$PWD:/work" switchyard:cpu train run.yaml
#   docker run --rm -v "$PWD:/work" --entrypoint /opt/switchyard/scripts/launch.sh \
#     switchyard:cpu -n 4 train run.yaml
#
# The runtime stage has the program, LibTorch's libraries, Open MPI, an ssh server for
# the MPI operator (docs/cluster), the configs, and a user without rights.
FROM debian:12-slim AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# LibTorch comes as PyTorch's +cpu wheel, which pip's default index does not have.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
WORKDIR /opt/switchyard
# The lists first: a change of a source does not install anything again.
COPY third_party third_party
COPY scripts/install.sh scripts/lib.sh scripts/
RUN scripts/install.sh
COPY CMakeLists.txt CMakePresets.json ./
COPY src src
COPY scripts scripts
RUN scripts/build.sh --portable
# What the program loads from LibTorch, and no more of it.
# hadolint ignore=DL3003
RUN mkdir lib && cd .venv/lib/python3.*/site-packages/torch/lib \
  && cp libtorch_cpu.so libc10.so libgomp* /opt/switchyard/lib && strip /opt/switchyard/build/release/switchyard

FROM debian:12-slim AS runtime
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# Debian 12 pins the versions; libopenmpi3 and the rest are what `ldd` asks for.
# hadolint ignore=DL3008
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    libcpp-httplib0.11 libopenmpi3 libpcre2-8-0 libyaml-cpp0.7 openmpi-bin openssh-client openssh-server \
  && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_* \
  && useradd --create-home --uid 1000 --shell /bin/bash switchyard \
  && install -d -o switchyard -m 700 /home/switchyard/.ssh && mkdir -p /run/sshd
COPY --from=build /opt/switchyard/lib /opt/switchyard/lib
COPY --from=build /opt/switchyard/build/release/switchyard /usr/local/bin/switchyard
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
