"""The HTML report: one file that shows a switch, its walk and its address space to somebody who was not there.

A :class:`~kexecdbg.ui.report.subject.Subject` goes in, a string comes out, from
:func:`kexecdbg.ui.report.page.report_html`. Nothing here reads a clock or a random number: the same subject gives the
same bytes. jinja2 and markupsafe are imported by this package and by nothing else.
"""
