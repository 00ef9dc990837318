package commandline

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

// ManualPage is the page in the language of man(7), from the same definitions as the help.
func ManualPage(app *kong.Application) string {
	var page roff
	page.macro(".TH", "AADPOOL", "1", "", Version())
	page.macro(".SH", "NAME")
	page.text("aadpool - log in to Azure Database for PostgreSQL with Microsoft Entra access tokens")
	page.macro(".SH", "SYNOPSIS")
	for _, command := range app.Children {
		page.macro(".B", "aadpool "+command.Summary())
		page.macro(".br")
	}
	page.macro(".SH", "DESCRIPTION")
	page.text(app.Help)
	page.flags(app.Flags)
	page.macro(".SH", "COMMANDS")
	for _, command := range app.Children {
		page.command(command)
	}
	page.macro(".SH", "EXIT STATUS")
	for _, e := range diag.Meanings {
		page.item(fmt.Sprint(int(e.Status)), e.Meaning)
	}
	return page.String()
}

// roff is a text in the language of man(7).
type roff struct{ strings.Builder }

// escape has only ASCII in its result: an old troff reads no more.
func escape(text string) string {
	var escaped strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			escaped.WriteString(`\e`)
		case r == '-':
			escaped.WriteString(`\-`)
		case r > unicode.MaxASCII:
			fmt.Fprintf(&escaped, `\[u%04X]`, r)
		default:
			escaped.WriteRune(r)
		}
	}
	return escaped.String()
}

func (r *roff) macro(name string, arguments ...string) {
	r.WriteString(name)
	for _, argument := range arguments {
		fmt.Fprintf(r, ` "%s"`, strings.ReplaceAll(escape(argument), `"`, `\(dq`))
	}
	r.WriteByte('\n')
}

// text is a paragraph. A line that begins with a dot or an apostrophe would be a macro.
func (r *roff) text(text string) {
	for line := range strings.Lines(text) {
		line = escape(strings.TrimRight(line, "\n"))
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		r.WriteString(line + "\n")
	}
}

// item is a paragraph with a heading beside it.
func (r *roff) item(heading, text string) {
	r.macro(".TP")
	r.macro(".B", heading)
	r.text(text)
}

// detail is a longer help: paragraphs, and between them lines to type, which are indented.
func (r *roff) detail(text string) {
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		if strings.HasPrefix(paragraph, "Exit status:") || paragraph == "" {
			return // which has a section of its own, and comes last
		}
		r.macro(".PP")
		if !strings.HasPrefix(paragraph, "    ") {
			r.text(paragraph)
			continue
		}
		r.macro(".nf")
		r.text(paragraph)
		r.macro(".fi")
	}
}

func (r *roff) command(command *kong.Node) {
	r.macro(".SS", "aadpool "+command.Summary())
	r.text(command.Help)
	r.detail(command.Detail)
	for _, argument := range command.Positional {
		r.item(argument.Summary(), argument.Help)
	}
	r.flags(command.Flags)
}

func (r *roff) flags(flags []*kong.Flag) {
	for _, flag := range flags {
		if flag.Hidden {
			continue
		}
		heading := flag.Summary()
		if flag.Short != 0 {
			heading = fmt.Sprintf("-%c, %s", flag.Short, heading)
		}
		r.item(heading, flag.Help)
	}
}
