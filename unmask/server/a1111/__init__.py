"""The API of AUTOMATIC1111's web UI, ``/sdapi/v1``, as a translation onto the orders of ``/v1``."""
