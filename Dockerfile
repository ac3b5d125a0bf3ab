# syntax=docker/dockerfile:1
# One image for every process of docker-compose.yml; which one it becomes is the command's choice.

FROM python:3.11-slim AS dependencies
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
COPY requirements.txt .
# Every file is checked against the lock's hashes: what was tested is what runs.
RUN /venv/bin/pip install --require-hashes -r requirements.txt


FROM python:3.11-slim
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A fixed number, so that orchestrators can see that it is not root; no home, no shell.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin a2a
WORKDIR /app
COPY --from=dependencies /venv /venv
COPY . .
# Collected here and not at start: the image is complete, and its files belong to root, who does not run it.
# The secret is for this step only; nothing is signed with it.
RUN A2A_SECRET_KEY=only-to-collect-static-files python manage.py collectstatic --no-input \
    && python -m compileall -q a2a_project artifacts_app tasks_app workers deploy
USER a2a
