"""The message brokers that Celery is driven through: their options, and where kombu's transports need more patience.

Which broker is used follows from the scheme of ``A2A_BROKER_URL``. Whatever it loses or repeats is only a hint.
"""
