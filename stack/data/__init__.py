"""PostgreSQL, Redis and RabbitMQ: how each is prepared, run by supervisord, addressed and asked whether it answers."""
