"""Import and export plugins: files of many kinds into columns, and columns into files.

What files may hold is described by :class:`~hangarlake.formats.base.Format`, which other packages can implement; :mod:`.importing` and
:mod:`.exporting` decide which file is which sample. Nothing that is read is ever unpickled or evaluated.
"""

from hangarlake.formats.base import ENTRY_POINT_GROUP, Format, Member, format_for, format_named, formats
from hangarlake.formats.exporting import ExportResult, export_column
from hangarlake.formats.importing import SkippedFile, SourceFile, find_files, import_columns, import_samples
from hangarlake.formats.names import file_names, key_of_name
from hangarlake.formats.samples import ImportOptions, ImportResult, UnclearKeysError
from hangarlake.formats.tables import (
    TableColumns,
    delimiter_of,
    export_table,
    import_members,
    import_table,
    table_header,
)

__all__ = [
    "ENTRY_POINT_GROUP",
    "ExportResult",
    "Format",
    "ImportOptions",
    "ImportResult",
    "Member",
    "SkippedFile",
    "SourceFile",
    "TableColumns",
    "UnclearKeysError",
    "delimiter_of",
    "export_column",
    "export_table",
    "file_names",
    "find_files",
    "format_for",
    "format_named",
    "formats",
    "import_columns",
    "import_members",
    "import_samples",
    "import_table",
    "key_of_name",
    "table_header",
]
