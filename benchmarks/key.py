"""``python -m benchmarks.key``: a client with an API key, whose text is the client's name for a benchmark to read."""

import django

django.setup()

from tasks_app.models import ApiKey, Client

if __name__ == "__main__":
    client = Client.objects.create(name="keyed")
    client.name = ApiKey.issue(client)[1]
    client.save()
