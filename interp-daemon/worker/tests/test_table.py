"""mp_table by itself, in this process."""

import importlib.machinery
import importlib.util

import pytest

from conftest import TARGET


@pytest.fixture(scope='module')
def table():
    path = str(TARGET / 'lib_vivarium.so')
    loader = importlib.machinery.ExtensionFileLoader('_vivarium', path)
    spec = importlib.util.spec_from_file_location('_vivarium', path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module.table


def test_lookup(table):
    t = table([('A', '1'), ('B', '2')])
    assert t['a'] == '1' and t['A'] == '1'
    t.add('a', '3')
    assert t['A'] == ['1', '3']
    assert t.get('A') == '1' and t.get('zz') is None and t.get('zz', 5) == 5
    assert t.has_key('b') == 1 and t.has_key('zz') == 0
    assert 'b' in t and b'b' in t and 'zz' not in t
    assert t[b'B'] == '2'
    assert len(t) == 3
    with pytest.raises(KeyError) as error:
        t['zz']
    assert error.value.args == ('zz',)


def test_writing(table):
    t = table()
    t['k'] = b'v'
    t['K'] = 'w'
    assert t.items() == [('k', 'w')]
    t.add('k', 'x')
    t['k'] = 'y'
    assert t.items() == [('k', 'y')]
    t['c'] = 'caf\xe9'
    assert t['c'] == 'caf\xe9'
    t['z'] = 'cut\0here'
    assert t['z'] == 'cut'
    del t['nothing']
    del t['K']
    assert t.keys() == ['c', 'z']
    for bad in (1, None, '\u20ac', '\ud800'):
        with pytest.raises(TypeError, match='not an ISO-8859-1 string'):
            t['x'] = bad
        with pytest.raises(TypeError, match='not an ISO-8859-1 string'):
            t.add('x', bad)
    for call in (lambda: t[1], lambda: t.get(1), lambda: 1 in t, lambda: t.has_key(1)):
        with pytest.raises(TypeError, match='not an ISO-8859-1 string'):
            call()


def test_order_and_iteration(table):
    t = table()
    for key, value in (('A', '1'), ('B', '2'), ('a', '3')):
        t.add(key, value)
    assert t.keys() == list(t) == list(t.iterkeys()) == ['A', 'B', 'a']
    assert t.values() == list(t.itervalues()) == ['1', '2', '3']
    assert t.items() == list(t.iteritems()) == [('A', '1'), ('B', '2'), ('a', '3')]
    assert repr(t) == str(t) == "{'a': '3', 'B': '2', 'A': '1'}"
    walk = iter(t)
    next(walk)
    t['new'] = '1'
    with pytest.raises(RuntimeError, match='table changed size during iteration'):
        next(walk)


def test_setdefault_popitem(table):
    t = table()
    assert t.setdefault('k') == '' and t['k'] == ''
    assert t.setdefault('n', '5') == '5' and t.setdefault('N', '6') == '5'
    assert t.popitem() == ('k', '')
    t.add('n', '7')
    assert t.popitem() == ('n', '5')
    assert t.items() == [('n', '7')]
    t.clear()
    with pytest.raises(KeyError) as error:
        t.popitem()
    assert error.value.args == ('popitem(): table is empty',)
    assert not hasattr(t, 'pop')


def test_copy_update_compare(table):
    t = table({'A': '1'})
    other = t.copy()
    assert type(other) is table and other == t and other is not t
    other['A'] = '2'
    assert t['A'] == '1' and other != t
    t.update({'q': 5, 7: 'u'})
    assert t == {'A': '1', 'q': '5', '7': 'u'}
    t.update(table({'A': 'new'}))
    assert t['A'] == 'new'
    with pytest.raises(AttributeError):
        t.update([('z', '1')])
    with pytest.raises(TypeError):
        t.update()
    assert not t == 5 and t != 5
    with pytest.raises(TypeError):
        hash(t)


def test_making(table):
    assert table({'a': 1}).items() == [('a', '1')]
    assert table([('A', '1'), ('B', '2'), ('a', '3')]).items() == [('A', '3'), ('B', '2')]
    assert table(table({'a': '1'})) == {'a': '1'}
    messages = (
        ((5,), {}, TypeError, "'int' object is not iterable"),
        (([1],), {}, TypeError, 'cannot convert table update sequence element #0 to a sequence'),
        (([('a', 'b', 'c')],), {}, ValueError,
         'table update sequence element #0 has length 3; 2 is required'),
        ((), {'a': 1}, TypeError, "'a' is an invalid keyword argument for mp_table"),
        (({}, {}), {}, TypeError, r'mp_table\(\) takes at most 1 argument \(2 given\)'),
    )
    for args, kwargs, kind, message in messages:
        with pytest.raises(kind, match=message):
            table(*args, **kwargs)


def test_subclass(table):
    class Sub(table):
        def more(self):
            return self['a'] + '!'

    sub = Sub({'a': '1'})
    sub.free = 5
    assert sub.more() == '1!' and sub.free == 5 and isinstance(sub, table)
    assert repr(table) == "<class 'mp_table'>"
    with pytest.raises(AttributeError):
        table().free = 5


def test_bool_and_bytes(table):
    assert not table() and table({'a': ''})
    t = table()
    t['x'] = b'\xc3\xa9'
    t['y'] = b'\xe9'
    assert t['x'] == '\xe9' and t['y'] == '\xe9'
    assert t.values() == ['\xe9', '\xe9']
