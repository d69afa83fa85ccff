# What `sampan build` does with this project, in a Dockerfile's words.

# application: app:app: a Flask object is bound here (app.py:3)
# python: 3.13: the newest of Debian's stable release; the project asks for none
# requirements: 1 requirement in requirements.txt: the project's requirements (requirements.txt:1)
# port: 5000: app.run() names it (app.py:10)
# server: gunicorn: the project names no server; never the debugger or the reloader, whatever app.run() says
# base: Debian 13 (trixie): signed packages, no shell, no package manager
# user: nonroot (65532): the application cannot write to its own code; /home/nonroot and /tmp are its own

FROM python:3.13-slim-trixie

ENV LANG=C.UTF-8
ENV HOME=/home/nonroot
ENV PYTHONUNBUFFERED=1
ENV PYTHONDONTWRITEBYTECODE=1
RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 65532 --create-home --home-dir /home/nonroot nonroot
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt "gunicorn"
COPY . /app
USER 65532:65532
EXPOSE 5000
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["gunicorn", "--bind", "0.0.0.0:5000", "--threads", "4", "--access-logfile", "-", "--worker-tmp-dir", "/dev/shm", "app:app"]
