"""Redirects and filters."""

import threading

kept = {}


def redirects(req):
    req.note = ['mine']
    req.headers_out['X-First'] = '1'
    kept['first'] = req
    kept['conn'] = req.connection
    req.internal_redirect('/target')
    kept['after'] = (req.next.uri, req.next is kept['second'], req.next.prev is req)
    req.write('back: %r, %s' % (kept['after'], req.headers_out['X-First']))
    return 0


def target(req):
    kept['second'] = req
    same = req.prev is kept['first'] and req.connection is kept['conn']
    req.prev.note.append('theirs')
    req.write(f'{same} {req.prev.note} {req.prev.uri} {req.prev.next is req} ')
    req.prev.write('through prev ')
    return 0


def prev_unknown(req):
    req.write(f'{req.prev.uri} {req.prev is req.prev} {req.prev.prev} {req.main}')
    return 0


def writes(req):
    req.write('some text ')
    req.write('and more')
    return 0


def registers(req):
    req.register_output_filter('UPPER', 'nested::upper')
    req.add_output_filter('UPPER')
    try:
        req.add_output_filter('nothing')
    except ValueError as error:
        kept['refused'] = str(error)
    req.write('quiet ' + kept['refused'])
    return 0


def upper(filt):
    filt.req.filtered = True
    data = filt.read()
    while data:
        filt.write(data.upper())
        data = filt.read()
    if data is None:
        filt.close()


def by_line(filt):
    line = filt.readline()
    while line:
        filt.write(b'> ' + line)
        line = filt.readline()


def describes(filt):
    filt.write(repr((filt.name, filt.is_input, filt.handler, filt.dir, filt.closed,
                     filt.softspace, filt.req.uri)))
    filt.softspace = 1
    first = filt.read(4)
    rest = filt.readline(3)
    filt.write(repr((first, rest, filt.softspace, repr(filt)[:10])))
    filt.pass_on()
    filt.close()
    filt.flush()
    filt.close()
    for call in (filt.read, filt.readline, lambda: filt.write(b'x')):
        try:
            call()
        except ValueError as error:
            kept.setdefault('closed', []).append(str(error))
    filt.disable()
    kept['filter'] = filt


def late_filter(req):
    filt = kept['filter']
    try:
        filt.disable()
    except Exception as error:
        req.write(f'{type(error).__name__}: {error} {kept["closed"]}')
    return 0


def ends(filt):
    """Reads on after the end."""
    filt.write(repr([filt.read(0), filt.readline(2), filt.readline(), filt.read(8), filt.read(8),
                     filt.read(8), filt.readline(), filt.read()]))


def asks(filt):
    """A filter that asks about its request while it is being written to."""
    data = filt.read()
    if data:
        filt.req.headers_out['X-Seen'] = 'by the filter'
        filt.write(data + filt.req.construct_url('/here').encode())


def seen(req):
    req.headers_out['X-Mine'] = 'kept'
    req.write('body ')
    req.write(' %s %s' % (req.headers_out['X-Seen'], req.headers_out['X-Mine']))
    return 0


def connectionhandler(conn):
    conn.write(b'hello ')
    line = conn.readline()
    conn.write(line + conn.read(3) + conn.read().upper())
    conn.log_error('from the connection')
    conn.write(repr((conn.hlist.handler, conn.client_ip, conn.notes['n'])))
    return 0


def target_with_thread(req):
    """A thread of the redirect's target writes to both requests while its handler waits for it."""
    def run():
        req.write('inner from a thread ')
        req.prev.write('outer from a thread ')

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return 0


def redirect_in_thread(req):
    """The redirect itself runs on a thread, while this one writes."""
    thread = threading.Thread(target=req.internal_redirect, args=('/target',))
    thread.start()
    for _ in range(100):
        req.write('.')
    thread.join()
    return 0


def fibre(req):
    """A target that redirects on until there is nowhere to go."""
    req.write(req.uri)
    step = int(req.uri[1:])
    if step < 20:
        req.internal_redirect(f'/{step + 1}')
    return 0
