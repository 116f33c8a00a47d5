"""HTTP API and web page on one machine; needs the extra ``serve``.

An event loop handles requests (`app`, started by `server`), a worker process decodes, computes and encodes (`worker`,
started and watched by `engine_room`), and jobs live in a folder (`jobs`). Nothing is imported here, since the worker
does without the modules of the event loop.
"""
