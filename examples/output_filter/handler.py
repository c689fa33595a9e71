"""An output filter: what any handler of httpd sends, here a plain file, passes through Python."""


def outputfilter(filter):
    while data := filter.read():
        filter.write(data.upper())
    if data is None:  # the end of the answer; b"" only means that nothing is there at the moment
        filter.close()
