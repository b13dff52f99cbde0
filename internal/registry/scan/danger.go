package scan

import "strings"

// global is one name that a pickle imports.
type global struct{ module, name string }

// dangerModules are those of which every name gives an attacker something: what
// picklescan 1.0.5 and modelscan 0.8.8 call critical, and their close kin.
var dangerModules = words(`os posix nt subprocess _posixsubprocess commands sys socket _socket ssl runpy pty shutil
	importlib _frozen_importlib imp zipimport pkgutil marshal ctypes _ctypes code codeop bdb pdb asyncio multiprocessing
	signal webbrowser http httplib urllib urllib2 requests aiohttp ftplib smtplib telnetlib pip ensurepip venv distutils
	setuptools timeit profile cProfile trace doctest pydoc idlelib inspect gc tempfile sysconfig site`)

// dangerNames are names of modules that are else harmless.
var dangerNames = words(`builtins.eval builtins.exec builtins.execfile builtins.compile builtins.open builtins.getattr
	builtins.setattr builtins.delattr builtins.globals builtins.locals builtins.vars builtins.breakpoint builtins.apply
	builtins.input builtins.map builtins.filter builtins.memoryview builtins.help
	operator.attrgetter operator.itemgetter operator.methodcaller operator.call functools.partial functools.reduce
	itertools.starmap io.open io.open_code io.FileIO codecs.open types.CodeType types.FunctionType`)

// dangerAttributes are attributes that lead to code from any object.
var dangerAttributes = words(`eval exec execfile system popen func_globals f_globals gi_frame runstring`)

// loaders are modules with functions that unpickle what they are given.
var loaders = words(`pickle dill cloudpickle joblib torch numpy pandas shelve`)

func words(list string) map[string]bool {
	set := make(map[string]bool)
	for _, w := range strings.Fields(list) {
		set[w] = true
	}
	return set
}

// dangerous reports whether importing g is something that only an attack does.
// A path through Python's own machinery (__class__, __globals__, __builtins__)
// or through a dangerous module that another one imports leads to everything,
// whatever it starts from.
func (g global) dangerous() bool {
	parts := strings.Split(g.module+"."+g.name, ".")
	root, path := aliased(parts[0]), parts[1:]
	if dangerModules[root] || dangerNames[root+"."+g.name] {
		return true
	}
	for i, part := range path {
		inner := i < len(path)-1
		if strings.HasPrefix(part, "__") || dangerAttributes[part] || inner && dangerModules[part] {
			return true
		}
	}
	return false
}

// loads reports whether g unpickles what it is given.
func (g global) loads() bool {
	return loaders[aliased(strings.Split(g.module, ".")[0])] &&
		(strings.HasPrefix(g.name, "load") || strings.HasPrefix(g.name, "Unpickl") || g.name == "read_pickle")
}

// aliased is the one name of modules that have several.
func aliased(module string) string {
	switch module {
	case "__builtin__", "__builtins__":
		return "builtins"
	case "_pickle", "cPickle":
		return "pickle"
	case "_operator", "_io", "_functools", "_codecs":
		return module[1:]
	}
	return module
}
