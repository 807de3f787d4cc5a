# Loads kexecdbg into GDB: `source /path/to/gdbinit`, or `gdb-multiarch -x /path/to/gdbinit`.
# Then connect, for instance to QEMU started with -s: `target remote :1234`, and type `help kexec-step`.
# docs/reference/gdb.md has all commands.
python
def _kexecdbg_load():
    import importlib.util, os, site, sys
    # GDB does not tell a script its own path; while it reads the script it has it open.
    links = (os.path.join("/proc/self/fd", number) for number in os.listdir("/proc/self/fd"))
    paths = (os.path.realpath(link) for link in links if os.path.lexists(link))
    here = next((os.path.dirname(path) for path in paths
                 if os.path.basename(path) == "gdbinit" and os.path.isdir(os.path.join(os.path.dirname(path), "plugins"))), None)
    if here is None:
        raise gdb.GdbError("kexecdbg: gdbinit cannot find its own folder; use: source PATH/gdbinit")
    version = "python%d.%d" % sys.version_info[:2]
    packages = os.path.join(here, ".venv", "lib", version, "site-packages")
    if os.path.basename(here) == "data":  # an installed package: <site-packages>/kexecdbg/data/gdbinit
        packages = os.path.dirname(os.path.dirname(here))
        if version not in packages and os.path.basename(os.path.dirname(packages)).startswith("python"):
            raise gdb.GdbError("kexecdbg: it is installed for %s, but this GDB embeds %s; install it with that Python"
                               % (os.path.basename(os.path.dirname(packages)), version))
    elif not os.path.isdir(packages):
        raise gdb.GdbError("kexecdbg: %s does not exist, and this GDB embeds %s; run %s"
                           % (packages, version, os.path.join(here, "qemu-scripts", "setup")))
    site.addsitedir(packages)
    if here not in sys.path and os.path.isdir(os.path.join(here, "kexecdbg")):
        sys.path.insert(0, here)
    # numpy's OpenBLAS starts a thread a processor, which multiply no matrix here and cost 30 ms at the first command.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    spec = importlib.util.spec_from_file_location("kexecdbg_plugins", os.path.join(here, "plugins", "__init__.py"),
                                                  submodule_search_locations=[os.path.join(here, "plugins")])
    module = importlib.util.module_from_spec(spec)
    sys.modules["kexecdbg_plugins"] = module
    spec.loader.exec_module(module)
    module.load()

class _KexecdbgProblem(gdb.Command):
    """Fails with what is in the way: GDB 13 shows an error of this script with a traceback, one of a command as it is."""
    def __init__(self, problem):
        super().__init__("kexecdbg-problem", gdb.COMMAND_OBSCURE)
        self.problem = problem
    def invoke(self, argument, from_tty):
        raise self.problem

gdb.set_convenience_variable("_kexecdbg_problem", 0)
try:
    _kexecdbg_load()
except gdb.GdbError as problem:
    _KexecdbgProblem(problem)
    gdb.set_convenience_variable("_kexecdbg_problem", 1)
del _kexecdbg_load, _KexecdbgProblem
end
if $_kexecdbg_problem
  kexecdbg-problem
end
