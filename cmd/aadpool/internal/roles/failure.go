package roles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/shell"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

// The causes of a role that cannot be made, or given its rights.
const (
	NoPrincipal      diagnosis.Cause = "principal-not-found"
	ManyPrincipals   diagnosis.Cause = "principal-not-unique"
	PrincipalKind    diagnosis.Cause = "principal-kind"
	NotAdministrator diagnosis.Cause = "not-an-administrator"
	NoFunctions      diagnosis.Cause = "no-entra-functions"
	ObjectID         diagnosis.Cause = "object-id-mismatch"
	PasswordRole     diagnosis.Cause = "role-without-principal"
	NoLogin          diagnosis.Cause = "role-without-login"
	NoSchema         diagnosis.Cause = "no-such-schema"
	Rights           diagnosis.Cause = "no-right-to-grant"
	Locked           diagnosis.Cause = "locked"
	Owned            diagnosis.Cause = "owned-by-another"
	NotKept          diagnosis.Cause = "owner-would-lose-rights"
)

// diagnose says why the work failed. Azure documents neither the words nor the SQLSTATEs of its functions, so short
// parts are looked for.
func (a *Run) diagnose(err error) *diagnosis.Diagnosis {
	if failed, ok := errors.AsType[*workError](err); ok && failed.diagnosis != nil {
		return failed.diagnosis
	}
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return a.diagnoseBroken(err)
	}
	if d := a.diagnosePrincipal(refused.Message); d != nil {
		return d
	}
	switch {
	case refused.Code == "42883":
		return &diagnosis.Diagnosis{Cause: NoFunctions, Status: diagnosis.Database,
			Meaning: "The server has no functions for Microsoft Entra principals: Entra authentication is not enabled on it, " +
				"or it is not Azure Database for PostgreSQL.",
			Fix: []string{"az postgres flexible-server update " + diagnosis.ServerFlags(a.Host, "--name") +
				" --microsoft-entra-auth Enabled"}}
	case refused.Code == "55P03" || refused.Code == "40P01" || strings.Contains(refused.Message, "concurrently"):
		return a.inUse(err)
	case refused.Code == "42501":
		return a.noRight(err, refused)
	}
	return &diagnosis.Diagnosis{Cause: diagnosis.Query, Meaning: "The server refused it: " + refused.Message + ".",
		Status: diagnosis.Database}
}

// diagnosePrincipal is for what Azure says of the principal itself; nil for all else.
func (a *Run) diagnosePrincipal(message string) *diagnosis.Diagnosis {
	says := func(part string) bool { return strings.Contains(strings.ToLower(message), part) }
	switch {
	case says("not found in the tenant"):
		return &diagnosis.Diagnosis{Cause: NoPrincipal, Status: diagnosis.Role,
			Meaning: fmt.Sprintf("The server's tenant has no principal %s. A name must be exact, case too; one that has just "+
				"been made may take minutes to be found.", a.principalName()),
			Fix: append([]string{"# its name and object id:"}, a.lookUp()...)}
	case says("not unique"):
		return &diagnosis.Diagnosis{Cause: ManyPrincipals, Status: diagnosis.Role,
			Meaning: fmt.Sprintf("Several principals of the tenant are called %q: the object id says which is meant.",
				a.Role.Name),
			Fix: append(append([]string{"# their object ids:"}, a.lookUp()...),
				"# and then this again with --object-id ID and --kind KIND")}
	case says("incorrect object type"):
		return &diagnosis.Diagnosis{Cause: PrincipalKind, Status: diagnosis.Role,
			Meaning: "The principal is of another kind: " + message + ".",
			Fix:     []string{"# --kind: user, group, or service-principal (which managed identities are, too)"}}
	}
	return nil
}

func (a *Run) diagnoseBroken(err error) *diagnosis.Diagnosis {
	if errors.Is(err, context.DeadlineExceeded) {
		return &diagnosis.Diagnosis{Cause: diagnosis.Query, Status: diagnosis.Database,
			Meaning: fmt.Sprintf("It was not done within %s.", a.Timeout), Fix: []string{"--timeout 5m"}}
	}
	return &diagnosis.Diagnosis{Cause: diagnosis.Query, Status: diagnosis.Database,
		Meaning: "The connection broke.", Fix: []string{"# run this again"}}
}

// noRight is for a caller who may not do it: make roles, or give rights on what others own.
func (a *Run) noRight(err error, refused *pgconn.PgError) *diagnosis.Diagnosis {
	user := a.Admin.Config().User
	if failed, ok := errors.AsType[*workError](err); ok && failed.step != "role" {
		return &diagnosis.Diagnosis{Cause: Rights, Status: diagnosis.Database,
			Meaning: fmt.Sprintf("%q may not give these rights: %s.", user, refused.Message),
			Fix: []string{"-- as the owner of the database, who may:",
				"grant all on database " + statement.Identifier(a.Role.Database) + " to " + statement.Identifier(user) +
					" with grant option;",
				"-- as the owner of the schema:",
				"grant all on schema " + statement.Identifier(a.Role.Schema) + " to " + statement.Identifier(user) +
					" with grant option;"}}
	}
	return &diagnosis.Diagnosis{Cause: NotAdministrator, Status: diagnosis.Database,
		Meaning: fmt.Sprintf("%q is no Microsoft Entra administrator of the server, who alone may make roles for principals.",
			user),
		Fix: []string{"# log in as one, whose names are in:",
			"az postgres flexible-server microsoft-entra-admin list " + diagnosis.ServerFlags(a.Host, "--server-name") +
				` --query "[].principalName" -o tsv`,
			"# or make this one an administrator:",
			"az postgres flexible-server microsoft-entra-admin create " + diagnosis.ServerFlags(a.Host, "--server-name") +
				" --display-name " + shell.Quote(user) + " --object-id " + cmp.Or(a.AdminID, "ID")}}
}

// inUse is for what others kept locked.
func (a *Run) inUse(err error) *diagnosis.Diagnosis {
	what, who := "what was to be changed", "state <> 'idle'"
	if failed, ok := errors.AsType[*workError](err); ok && failed.on != "" {
		what = failed.on
		if kind, name, _ := strings.Cut(what, " "); slices.Contains([]string{"table", "view", "sequence"}, kind) {
			who = "pid in (select pid from pg_locks where relation = " + statement.Literal(name) + "::regclass)"
		}
	}
	return &diagnosis.Diagnosis{Cause: Locked, Status: diagnosis.Database,
		Meaning: fmt.Sprintf("Others use %s: it could not be locked within %s.", what, a.LockTimeout),
		Fix: []string{"-- in the database " + a.Role.Database + ", who it is:",
			"select pid, usename, application_name, state, xact_start, query from pg_stat_activity where " + who + ";",
			"# and run this again when they are done, or with a longer --lock-timeout; meanwhile others wait behind it"}}
}

// mayNotGrant is for a right that the administrator may not give.
func mayNotGrant(step, message string) error {
	return &workError{step: step, err: &pgconn.PgError{Severity: "ERROR", Code: "42501", Message: message}}
}

// mayNotGrantOn is for a table whose owner the administrator cannot act for.
func (p *planner) mayNotGrantOn(kind objectKind, object, owner string) error {
	return &workError{step: kind.name,
		err: fmt.Errorf("%s is owned by %s, and this administrator may not grant all of %s on it", object, owner,
			kind.privileges),
		diagnosis: &diagnosis.Diagnosis{Cause: Rights, Status: diagnosis.Database,
			Meaning: fmt.Sprintf("%s is owned by %s, whom this administrator may not act for.", object, owner),
			Fix:     p.letAct(owner)}}
}

// letAct says how the administrator may come to act for an owner, whose name is quoted where it has to be.
func (p *planner) letAct(owner string) []string {
	return []string{"-- as " + owner + ", or as somebody who may grant it:",
		"grant " + owner + " to " + statement.Identifier(p.admin) + ";", "# and run this again"}
}

// mayNotTake is for what is owned by a role that the administrator cannot act for.
func (p *planner) mayNotTake(o formerOwner, taken []ownedObject) error {
	return &workError{step: "objects", notes: describeTaken(of(o.name, taken)),
		err: fmt.Errorf("schema %q has things that are %q's, whom this administrator may not act for", p.role.Schema, o.name),
		diagnosis: &diagnosis.Diagnosis{Cause: Rights, Status: diagnosis.Database,
			Meaning: fmt.Sprintf("What %q owns cannot change hands: this administrator may not act for it.", o.name),
			Fix:     p.letAct(statement.Identifier(o.name))}}
}

// mayNotKeep is for an owner who would lose rights, since it cannot become a member of the new owner.
func (p *planner) mayNotKeep(o formerOwner, taken []ownedObject) error {
	role, owner := statement.Identifier(p.role.Name), statement.Identifier(o.name)
	d := &diagnosis.Diagnosis{Cause: NotKept, Status: diagnosis.Database}
	switch {
	case o.isMadeOf:
		d.Meaning = fmt.Sprintf("%q is a member of %q, without its rights, and members of each other are impossible.",
			p.role.Name, o.name)
		d.Fix = []string{"-- it may do all that an owner may, if its membership has the rights:",
			"grant " + owner + " to " + role + " with inherit true;"}
	case o.isRestricted:
		d.Meaning = fmt.Sprintf("A restrictive policy of row-level security is for %q, and would be for %q as its member.",
			p.role.Name, o.name)
		d.Fix = []string{"select * from pg_policies where permissive = 'RESTRICTIVE' and " + statement.Literal(p.role.Name) +
			" = any (roles);"}
	case o.ignoresItsRoles:
		d.Meaning = fmt.Sprintf("%q is NOINHERIT: as a member of %q it would have none of its rights.", o.name, p.role.Name)
		d.Fix = []string{"alter role " + owner + " inherit;"}
	default:
		d.Meaning = fmt.Sprintf("This administrator may not make %q a member of %q.", o.name, p.role.Name)
		d.Fix = []string{"-- as somebody who may:", "grant " + role + " to " + statement.Identifier(p.admin) +
			" with admin option;"}
	}
	d.Meaning += fmt.Sprintf(" So %q would lose its rights on what is its own.", o.name)
	return &workError{step: "objects", notes: describeTaken(of(o.name, taken)), diagnosis: d,
		err: fmt.Errorf("schema %q has things that are %q's, who would lose its rights on them", p.role.Schema, o.name)}
}

// ownedByOthers is for what changes hands only if somebody says so.
func (p *planner) ownedByOthers(taken []ownedObject) error {
	role := statement.Identifier(p.role.Name)
	flags, grants := "", []string(nil)
	for i, o := range taken {
		if i == 0 || taken[i-1].owner != o.owner {
			flags += " --take-from " + shell.Quote(o.owner)
			grants = append(grants, "grant "+statement.Identifier(o.owner)+" to "+role+";")
		}
	}
	return &workError{step: "objects", notes: describeTaken(taken),
		err: fmt.Errorf("schema %q has things that are others': %s", p.role.Schema, ownersOf(taken)),
		diagnosis: &diagnosis.Diagnosis{Cause: Owned, Status: diagnosis.Database,
			Meaning: fmt.Sprintf("To make %q the owner of all in schema %q takes from others what they own.",
				p.role.Name, p.role.Schema),
			Fix: append([]string{"# if it is to, this again with the following: they become members of " + role +
				", may do with it what they could, and all else that " + role + " may", strings.TrimSpace(flags),
				"-- or leave it to them, and let " + role + " act for them:"}, grants...)}}
}

// of are those that the role owns.
func of(owner string, objects []ownedObject) []ownedObject {
	return slices.DeleteFunc(slices.Clone(objects), func(o ownedObject) bool { return o.owner != owner })
}

func (a *Run) principalName() string {
	if a.Role.ObjectID != "" {
		return "with object id " + a.Role.ObjectID
	}
	return fmt.Sprintf("%q", a.Role.Name)
}

// lookUp are commands that find principals by what is given.
func (a *Run) lookUp() []string {
	const columns = ` --query "[].{name:displayName, id:id}" -o table`
	if id := a.Role.ObjectID; id != "" {
		return []string{"az rest --url https://graph.microsoft.com/v1.0/directoryObjects/" + id}
	}
	name := shell.Quote(a.Role.Name)
	user := "az ad user list --upn " + name + ` --query "[].{name:userPrincipalName, id:id}" -o table`
	group, service := "az ad group list --display-name "+name+columns, "az ad sp list --display-name "+name+columns
	switch {
	case objectTypes[a.Role.Kind] == "user", a.Role.Kind == "" && strings.Contains(a.Role.Name, "@"):
		return []string{user}
	case a.Role.Kind == "group":
		return []string{group}
	case a.Role.Kind == "":
		return []string{service, group}
	}
	return []string{service}
}
