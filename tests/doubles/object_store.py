"""An S3 service on loopback, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.error import URLError
from urllib.request import urlopen

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from tests.end_to_end.home import free_port

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "secret-of-the-test"}


@dataclass
class ObjectStore:
    """A running service with one bucket, `stamps`.

    Attributes
    ----------
    environment
        What a process needs to reach it, by the usual AWS variables.
    """

    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    def client(self, anonymous: bool = False) -> object:
        """A boto3 client, to look at what is there."""
        signing = Config(signature_version=UNSIGNED) if anonymous else None
        return boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            config=signing,
        )

    def keys(self, prefix: str = "") -> dict[str, int]:
        """Key of each visible object to its bytes."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket="stamps", Prefix=prefix)
        return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", [])}

    def content(self, key: str) -> bytes:
        """Bytes of an object."""
        return self.client().get_object(Bucket="stamps", Key=key)["Body"].read()


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Start the service, make the bucket, and end it."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urlopen(address, timeout=1).close()
                break
            except (URLError, OSError):
                if process.poll() is not None:
                    raise RuntimeError(f"the S3 service ended with status {process.returncode}") from None
                time.sleep(0.1)
        environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1"}
        store = ObjectStore(process, environment)
        store.client().create_bucket(Bucket="stamps")
        yield store
    finally:
        process.terminate()
        process.wait(10)
