# One image for the API, the worker and the migrations; the command chooses (docker-compose.yml).
# Never built in this project's own checks, which have no container engine.
FROM python:3.13.9-slim-bookworm AS packages

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN python -m venv /venv
COPY requirements/image.txt requirements/
RUN /venv/bin/pip install --require-hashes -r requirements/image.txt
# The application stands beside the library, so the folder itself is installed, editable.
COPY pyproject.toml README.md LICENSE ./
COPY tracker tracker
RUN /venv/bin/pip install --no-deps --no-build-isolation --editable .

FROM python:3.13.9-slim-bookworm

ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
RUN useradd --system --create-home --uid 10001 flowtrail
COPY --from=packages /venv /venv
COPY . .
USER flowtrail
EXPOSE 8080
ENTRYPOINT ["flowtrail"]
CMD ["api"]
