def hello(req):
    req.content_type = 'text/plain'
    req.headers_out['X-Hello'] = 'there'
    req.write('Hello, world!\n')
    return 0
