FROM python:3.11-slim
ENV PYTHONSAFEPATH=1 TOKENIZERS_PARALLELISM=false PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN pip install --index-url https://download.pytorch.org/whl/cpu torch==2.13.0
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY router_gateway router_gateway
COPY policies policies
COPY migrations migrations
COPY datasets/probes.jsonl datasets/
RUN pip install -c constraints.txt '.[demo,postgres,evaluation]' && rm -rf /src
RUN useradd --system --create-home gateway && mkdir /state && chown gateway /state
USER gateway
WORKDIR /home/gateway
EXPOSE 8080
CMD ["router-gateway", "serve"]
