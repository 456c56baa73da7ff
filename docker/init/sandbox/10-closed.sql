-- This whole server is the sandbox: the shadows' roles may connect to their own databases only (they are granted that).
REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC;
