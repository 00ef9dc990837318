package commands

import (
	"io"
	"os"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/check"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
)

// checkCommand is aadpool check.
type checkCommand struct {
	DSN string `arg:"" optional:"" help:"As for pgxpool: a URL or keywords (default: the PG* environment variables). A password in it is not used."`
	tokens.Flags
	JSON        bool   `name:"json" help:"Print one JSON object in the place of lines."`
	Fix         bool   `help:"Where SQL fixes the fault and you may run it, offer to, and go on from there."`
	FixAs       string `name:"fix-as" placeholder:"ROLE" help:"With --fix: the role to log in as for it, such as a group of Microsoft Entra administrators (default: the name in the token)."`
	FixDatabase string `name:"fix-database" placeholder:"NAME" help:"With --fix: make the database of the DSN if it is missing and has this name."`
	Yes         bool   `help:"With --fix: do not ask."`
}

// Help is shown by aadpool check --help.
func (checkCommand) Help() string {
	return `It prints a line for each step: ✓ done, ✗ failed, ! worth a look, – not possible here. At the first failure it
says what that means and what to type to fix it. No line holds a token, a secret or a password.

With --fix it asks whether to run the SQL that fixes the fault: to make the role of the token's own principal, or the
database that --fix-database names, or to give the right to connect. It asks only once it knows that you may, looks at what
came of it, and goes on with the check.`
}

func (cmd *checkCommand) Run(in invocation.Invocation) error {
	if err := cmd.Check(); err != nil {
		return err
	}
	answers, err := cmd.answers(in)
	if err != nil {
		return err
	}
	cmd.FillFrom(cmd.DSN)
	source, err := cmd.NewSource(in.System.ClientOptions)
	if err != nil {
		return err
	}
	reporter := in.Reporter(cmd.JSON)
	c := check.New(check.Settings{DSN: cmd.DSN, LookUp: in.System.LookUp,
		Again: func(dsn string) string { return "aadpool check " + dsn },
		Fixes: check.Fixes{As: cmd.FixAs, Database: cmd.FixDatabase, Answers: answers}}, source, reporter)
	d, err := c.Run(in.Ctx)
	if err == nil && d != nil && cmd.Fix {
		d, err = c.FixAndGoOn(in.Ctx, d)
	}
	if err != nil {
		return err
	}
	if err := reporter.End(d); err != nil {
		return err
	}
	if d != nil {
		return exit.Error{Status: d.Status, Text: d.Meaning, Printed: true}
	}
	return nil
}

// answers is where to read what the person says who is asked; nil if nobody is to be.
func (cmd *checkCommand) answers(in invocation.Invocation) (io.Reader, error) {
	switch {
	case !cmd.Fix && (cmd.Yes || cmd.FixAs != "" || cmd.FixDatabase != ""):
		return nil, exit.Usage("--yes, --fix-as and --fix-database need --fix")
	case !cmd.Fix || cmd.Yes:
		return nil, nil
	case in.System.Answers != nil && !cmd.JSON:
		return in.System.Answers, nil
	case cmd.JSON, !in.System.IsShown(in.Stdout), !terminal.Is(os.Stdin):
		return nil, exit.Usage("--fix asks on a terminal, and there is none or --json: give --yes too")
	}
	return os.Stdin, nil
}
