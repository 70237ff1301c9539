# One image for API, worker and migrations. BASE lets an installation use its own Python image.
ARG BASE=python:3.13-slim
FROM ${BASE}

RUN useradd --create-home --uid 10001 relab
WORKDIR /opt/relab
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir -c constraints.txt ".[postgres,redis,llm]"

ENV PATH=/opt/venv/bin:$PATH \
    RELAB_HOME=/var/lib/relab \
    APP_ENV=production \
    PYTHONUNBUFFERED=1
RUN mkdir -p /var/lib/relab && chown relab /var/lib/relab
USER relab
VOLUME /var/lib/relab
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
CMD ["lab", "serve", "--host", "0.0.0.0"]
