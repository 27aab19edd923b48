# One image for every role: a Deployment gives only the arguments, such as ["webserver", "--content", "Webserver V1"].
FROM python:3.14-slim AS build
RUN python -m venv --without-pip /opt/meshdemo
WORKDIR /source
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY k8s k8s
COPY meshdemo meshdemo
RUN python -m pip --python /opt/meshdemo/bin/python install --no-cache-dir --compile .

FROM python:3.14-slim
COPY --from=build /opt/meshdemo /opt/meshdemo
# Byte code of the standard library, which the base image leaves out: compiled once here instead of at every start.
RUN ["/opt/meshdemo/bin/python", "-c", "import meshdemo.cli, meshdemo.roles.local"]
ENV PATH=/opt/meshdemo/bin:$PATH
# A container's loopback is reached by nobody else, so that `up` listens on all interfaces here, as the roles always do.
ENV LISTEN_HOST=*
# A number, since runAsNonRoot cannot check a name.
USER 10001:10001
EXPOSE 3030
ENTRYPOINT ["meshdemo"]
