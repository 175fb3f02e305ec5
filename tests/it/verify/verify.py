"""Checks webhooks with the PyPI package `standardwebhooks`.

Reads JSON lines {"secret", "headers", "body"}; answers each with a line: "ok", or "refused: WHY".
"""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

for line in sys.stdin:
    message = json.loads(line)
    try:
        Webhook(message["secret"]).verify(message["body"], message["headers"])
        print("ok")
    except WebhookVerificationError as error:
        print(f"refused: {error}")
