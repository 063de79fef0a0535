# Two images from one file.
#   airflow   scheduler, API server, triggerer, workers: the `airflow` extra
#   train     what the pod of a stage runs: the `train` extra, no Airflow
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 MLFLOW_DISABLE_TELEMETRY=true GX_ANALYTICS_ENABLED=false
ENV PYTHONPATH=/opt/embft EMBFT_INCLUDE=/opt/embft/include
WORKDIR /opt/embft
COPY pyproject.toml requirements.lock README.md ./
COPY embft embft
# Named volumes take the owner of the folder that they are mounted on.
RUN useradd --create-home --uid 10001 embft && install --directory --owner embft /home/embft/airflow /mlflow

FROM base AS train
RUN pip install -c requirements.lock ".[train]"
COPY include include
USER embft
ENTRYPOINT ["python", "-m", "embft"]

FROM base AS airflow
# One machine runs everything here, the stages too, so this image holds both extras.
RUN pip install -c requirements.lock ".[airflow,train]"
COPY include include
COPY dags dags
USER embft
ENV AIRFLOW_HOME=/home/embft/airflow AIRFLOW__CORE__DAGS_FOLDER=/opt/embft/dags AIRFLOW__CORE__LOAD_EXAMPLES=False
CMD ["airflow", "standalone"]
