# Serves a run: docker build -t storycell . && docker run -p 8000:8000 -v "$PWD/runs:/runs" storycell /runs/mine
FROM python:3.13 AS build
COPY . /source
RUN pip wheel --no-deps --wheel-dir /wheels /source

FROM python:3.13-slim
RUN --mount=from=build,source=/wheels,target=/wheels pip install --no-cache-dir "$(echo /wheels/*.whl)[serve]" \
 && useradd --create-home --uid 1000 storycell
USER 1000
EXPOSE 8000
ENTRYPOINT ["storycell", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["demo"]
