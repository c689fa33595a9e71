import os
import sys
import threading

print("Content-Type: text/plain")
what = os.environ["PATH_INFO"].strip("/")
if what == "status":
    print("Status: 404 Nowhere")
if what != "endless_head":
    print()
if what == "where":
    print(os.getcwd(), __name__, os.environ["QUERY_STRING"], os.environ["SCRIPT_FILENAME"])
    os.chdir("/tmp")
    os.environ["LEFT"] = "1"
elif what == "left":
    print(os.environ.get("LEFT"), os.getcwd())
elif what == "body":
    sys.stdout.flush()
    sys.stdout.buffer.write(sys.stdin.buffer.read())
elif what == "form":
    import cgi

    form = cgi.FieldStorage()
    print(form.getfirst("name"), form["file"].filename, len(form["file"].file.read()))
elif what == "exit":
    print("before")
    sys.exit()
elif what == "fails":
    raise RuntimeError("the script fails")
elif what == "turns":
    # Nobody else runs meanwhile: the directory and the environment stay this script's.
    mine = os.environ["QUERY_STRING"]
    for _ in range(20):
        assert os.environ["QUERY_STRING"] == mine
        threading.Event().wait(0.001)
    print(mine)
