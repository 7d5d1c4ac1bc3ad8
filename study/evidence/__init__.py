"""From records to what a reader sees: agreement, tables, figures. Never imports torch."""
