"""模式注册中心，兼容 Confluent REST 接口 (the schema registry)。"""

from __future__ import annotations

import threading

from schemas.topics import Topics
from services.registry.api import create_app
from services.registry.log import RegistryLog
from services.runtime import logging
from services.runtime.exposition import new_registry
from services.runtime.kafka.client import connect
from services.runtime.lifecycle import stop_event
from services.runtime.settings import Settings
from services.runtime.web import serve

STOP_S = 5.0


def run(settings: Settings, *, port: int) -> None:
    """Serve the registry until SIGTERM."""
    logging.configure(settings.log, process="registry")
    stop = stop_event()  # uvicorn raises its signal again when it has stopped: then this handles it
    log = RegistryLog(connect(settings.kafka), Topics(settings.kafka.topic_prefix))
    follower = threading.Thread(target=log.run, args=(stop,), name="registry-log", daemon=True)
    follower.start()
    serve(create_app(log, new_registry()), settings.http.host, port, stop)
    follower.join(STOP_S)
