package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

// The causes of a role that cannot be made, or given its rights.
const (
	causeNoPrincipal      cause = "principal-not-found"
	causeManyPrincipals   cause = "principal-not-unique"
	causePrincipalKind    cause = "principal-kind"
	causeNotAdministrator cause = "not-an-administrator"
	causeNoFunctions      cause = "no-entra-functions"
	causeObjectID         cause = "object-id-mismatch"
	causePasswordRole     cause = "role-without-principal"
	causeNoLogin          cause = "role-without-login"
	causeNoSchema         cause = "no-such-schema"
	causeRights           cause = "no-right-to-grant"
	causeLocked           cause = "locked"
	causeOwned            cause = "owned-by-another"
	causeNotKept          cause = "owner-would-lose-rights"
)

// compare checks that a role that was there is the principal's that is meant.
func (a *roleApply) compare(p principal) error {
	role, quoted := a.role, identifier(a.role.Name)
	want := objectTypes[role.Kind]
	fail := func(d diagnosis, format string, args ...any) error {
		d.Status = exitRole
		return &workError{step: "role", err: fmt.Errorf(format, args...), diagnosis: &d}
	}
	again := []string{"-- if nothing is owned by it or granted to it any more:", "drop role " + quoted + ";",
		"# and run this again"}
	switch {
	case p.objectID == "":
		return fail(diagnosis{Cause: causePasswordRole,
			Meaning: fmt.Sprintf("There is a role %q, and it is no Microsoft Entra principal's: it was made with a password, "+
				"or to hold rights.", role.Name),
			Fix: append([]string{"-- to map it to the principal with this object id, keeping its rights:",
				a.securityLabel(), "-- or,"}, again...),
		}, "the role %q exists, and is mapped to no principal", role.Name)
	case role.ObjectID != "" && !strings.EqualFold(role.ObjectID, p.objectID):
		return fail(diagnosis{Cause: causeObjectID,
			Meaning: fmt.Sprintf("The role %q is for the principal with object id %s, not %s: another one, or the same before "+
				"it was made anew.", role.Name, p.objectID, role.ObjectID),
			Fix: append([]string{"-- to map it to the new one, keeping its rights:", a.securityLabel(), "-- or,"},
				again...),
		}, "the role %q is for object id %s, not %s", role.Name, p.objectID, role.ObjectID)
	case want != "" && !strings.EqualFold(want, p.kind):
		return fail(diagnosis{Cause: causePrincipalKind,
			Meaning: fmt.Sprintf("The role %q is for a %s.", role.Name, kindNames[strings.ToLower(p.kind)]),
			Fix:     []string{"# leave --kind out, or give the role another name, with --object-id"},
		}, "the role %q is for a %s, not a %s", role.Name, kindNames[strings.ToLower(p.kind)], kindNames[want])
	case !p.canLogIn:
		return fail(diagnosis{Cause: causeNoLogin,
			Meaning: fmt.Sprintf("The role %q is mapped to the principal, but may not log in.", role.Name),
			Fix:     []string{asAdministrator, "alter role " + quoted + " login;"},
		}, "the role %q may not log in", role.Name)
	}
	return nil
}

// securityLabel is the statement that maps a role that exists:
// https://learn.microsoft.com/azure/postgresql/security/security-manage-entra-users
func (a *roleApply) securityLabel() string {
	id, kind := a.role.ObjectID, objectTypes[a.role.Kind]
	if id == "" {
		id = "OBJECT-ID"
	}
	if kind == "" {
		kind = "service"
	}
	label := literal("aadauth,oid=" + id + ",type=" + kind)
	return fmt.Sprintf(`security label for "pgaadauth" on role %s is %s;`, identifier(a.role.Name), label)
}

// diagnose says why the work failed. Azure documents neither the words nor the SQLSTATEs of its functions, so short
// parts are looked for.
func (a *roleApply) diagnose(err error) *diagnosis {
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
		return &diagnosis{Cause: causeNoFunctions, Status: exitDatabase,
			Meaning: "The server has no functions for Microsoft Entra principals: Entra authentication is not enabled on it, " +
				"or it is not Azure Database for PostgreSQL.",
			Fix: []string{"az postgres flexible-server update " + diag.ServerFlags(a.host(), "--name") +
				" --microsoft-entra-auth Enabled"}}
	case refused.Code == "55P03" || refused.Code == "40P01" || strings.Contains(refused.Message, "concurrently"):
		return a.inUse(err)
	case refused.Code == "42501":
		return a.noRight(err, refused)
	}
	return &diagnosis{Cause: causeQuery, Meaning: "The server refused it: " + refused.Message + ".", Status: exitDatabase}
}

// diagnosePrincipal is for what Azure says of the principal itself; nil for all else.
func (a *roleApply) diagnosePrincipal(message string) *diagnosis {
	says := func(part string) bool { return strings.Contains(strings.ToLower(message), part) }
	switch {
	case says("not found in the tenant"):
		return &diagnosis{Cause: causeNoPrincipal, Status: exitRole,
			Meaning: fmt.Sprintf("The server's tenant has no principal %s. A name must be exact, case too; one that has just "+
				"been made may take minutes to be found.", a.principalName()),
			Fix: append([]string{"# its name and object id:"}, a.lookUp()...)}
	case says("not unique"):
		return &diagnosis{Cause: causeManyPrincipals, Status: exitRole,
			Meaning: fmt.Sprintf("Several principals of the tenant are called %q: the object id says which is meant.",
				a.role.Name),
			Fix: append(append([]string{"# their object ids:"}, a.lookUp()...),
				"# and then this again with --object-id ID and --kind KIND")}
	case says("incorrect object type"):
		return &diagnosis{Cause: causePrincipalKind, Status: exitRole,
			Meaning: "The principal is of another kind: " + message + ".",
			Fix:     []string{"# --kind: user, group, or service-principal (which managed identities are, too)"}}
	}
	return nil
}

func (a *roleApply) diagnoseBroken(err error) *diagnosis {
	if errors.Is(err, context.DeadlineExceeded) {
		return &diagnosis{Cause: causeQuery, Status: exitDatabase,
			Meaning: fmt.Sprintf("It was not done within %s.", a.role.Timeout), Fix: []string{"--timeout 5m"}}
	}
	return &diagnosis{Cause: causeQuery, Status: exitDatabase,
		Meaning: "The connection broke.", Fix: []string{"# run this again"}}
}

// noRight is for a caller who may not do it: make roles, or give rights on what others own.
func (a *roleApply) noRight(err error, refused *pgconn.PgError) *diagnosis {
	user := a.admin.Config().User
	if failed, ok := errors.AsType[*workError](err); ok && failed.step != "role" {
		return &diagnosis{Cause: causeRights, Status: exitDatabase,
			Meaning: fmt.Sprintf("%q may not give these rights: %s.", user, refused.Message),
			Fix: []string{"-- as the owner of the database, who may:",
				"grant all on database " + identifier(a.role.Database) + " to " + identifier(user) + " with grant option;",
				"-- as the owner of the schema:",
				"grant all on schema " + identifier(a.role.Schema) + " to " + identifier(user) + " with grant option;"}}
	}
	return &diagnosis{Cause: causeNotAdministrator, Status: exitDatabase,
		Meaning: fmt.Sprintf("%q is no Microsoft Entra administrator of the server, who alone may make roles for principals.",
			user),
		Fix: []string{"# log in as one, whose names are in:",
			"az postgres flexible-server microsoft-entra-admin list " + diag.ServerFlags(a.host(), "--server-name") +
				` --query "[].principalName" -o tsv`,
			"# or make this one an administrator:",
			"az postgres flexible-server microsoft-entra-admin create " + diag.ServerFlags(a.host(), "--server-name") +
				" --display-name " + diag.ShellQuote(user) + " --object-id " + a.ownObjectID()}}
}

// inUse is for what others kept locked.
func (a *roleApply) inUse(err error) *diagnosis {
	what, who := "what was to be changed", "state <> 'idle'"
	if failed, ok := errors.AsType[*workError](err); ok && failed.on != "" {
		what = failed.on
		if kind, name, _ := strings.Cut(what, " "); slices.Contains([]string{"table", "view", "sequence"}, kind) {
			who = "pid in (select pid from pg_locks where relation = " + literal(name) + "::regclass)"
		}
	}
	return &diagnosis{Cause: causeLocked, Status: exitDatabase,
		Meaning: fmt.Sprintf("Others use %s: it could not be locked within %s.", what, a.role.LockTimeout),
		Fix: []string{"-- in the database " + a.role.Database + ", who it is:",
			"select pid, usename, application_name, state, xact_start, query from pg_stat_activity where " + who + ";",
			"# and run this again when they are done, or with a longer --lock-timeout; meanwhile others wait behind it"}}
}

// mayNotGrant is for a right that the administrator may not give.
func mayNotGrant(step, message string) error {
	return &workError{step: step, err: &pgconn.PgError{Severity: "ERROR", Code: "42501", Message: message}}
}

// mayNotGrantOn is for a table whose owner the administrator cannot act for.
func (p *rightsPlanner) mayNotGrantOn(kind objectKind, object, owner string) error {
	return &workError{step: kind.name,
		err: fmt.Errorf("%s is owned by %s, and this administrator may not grant all of %s on it", object, owner, kind.privileges),
		diagnosis: &diagnosis{Cause: causeRights, Status: exitDatabase,
			Meaning: fmt.Sprintf("%s is owned by %s, whom this administrator may not act for.", object, owner),
			Fix:     p.letAct(owner)}}
}

// letAct says how the administrator may come to act for an owner, whose name is quoted where it has to be.
func (p *rightsPlanner) letAct(owner string) []string {
	return []string{"-- as " + owner + ", or as somebody who may grant it:",
		"grant " + owner + " to " + identifier(p.admin) + ";", "# and run this again"}
}

// mayNotTake is for what is owned by a role that the administrator cannot act for.
func (p *rightsPlanner) mayNotTake(o formerOwner, taken []ownedObject) error {
	return &workError{step: "objects", notes: describeTaken(of(o.name, taken)),
		err: fmt.Errorf("schema %q has things that are %q's, whom this administrator may not act for", p.role.Schema, o.name),
		diagnosis: &diagnosis{Cause: causeRights, Status: exitDatabase,
			Meaning: fmt.Sprintf("What %q owns cannot change hands: this administrator may not act for it.", o.name),
			Fix:     p.letAct(identifier(o.name))}}
}

// mayNotKeep is for an owner who would lose rights, since it cannot become a member of the new owner.
func (p *rightsPlanner) mayNotKeep(o formerOwner, taken []ownedObject) error {
	role, owner := identifier(p.role.Name), identifier(o.name)
	d := &diagnosis{Cause: causeNotKept, Status: exitDatabase}
	switch {
	case o.isMadeOf:
		d.Meaning = fmt.Sprintf("%q is a member of %q, without its rights, and members of each other are impossible.",
			p.role.Name, o.name)
		d.Fix = []string{"-- it may do all that an owner may, if its membership has the rights:",
			"grant " + owner + " to " + role + " with inherit true;"}
	case o.isRestricted:
		d.Meaning = fmt.Sprintf("A restrictive policy of row-level security is for %q, and would be for %q as its member.",
			p.role.Name, o.name)
		d.Fix = []string{"select * from pg_policies where permissive = 'RESTRICTIVE' and " + literal(p.role.Name) + " = any (roles);"}
	case o.ignoresItsRoles:
		d.Meaning = fmt.Sprintf("%q is NOINHERIT: as a member of %q it would have none of its rights.", o.name, p.role.Name)
		d.Fix = []string{"alter role " + owner + " inherit;"}
	default:
		d.Meaning = fmt.Sprintf("This administrator may not make %q a member of %q.", o.name, p.role.Name)
		d.Fix = []string{"-- as somebody who may:", "grant " + role + " to " + identifier(p.admin) + " with admin option;"}
	}
	d.Meaning += fmt.Sprintf(" So %q would lose its rights on what is its own.", o.name)
	return &workError{step: "objects", notes: describeTaken(of(o.name, taken)), diagnosis: d,
		err: fmt.Errorf("schema %q has things that are %q's, who would lose its rights on them", p.role.Schema, o.name)}
}

// ownedByOthers is for what changes hands only if somebody says so.
func (p *rightsPlanner) ownedByOthers(taken []ownedObject) error {
	role := identifier(p.role.Name)
	flags, grants := "", []string(nil)
	for i, o := range taken {
		if i == 0 || taken[i-1].owner != o.owner {
			flags += " --take-from " + diag.ShellQuote(o.owner)
			grants = append(grants, "grant "+identifier(o.owner)+" to "+role+";")
		}
	}
	return &workError{step: "objects", notes: describeTaken(taken),
		err: fmt.Errorf("schema %q has things that are others': %s", p.role.Schema, ownersOf(taken)),
		diagnosis: &diagnosis{Cause: causeOwned, Status: exitDatabase,
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

// ownObjectID is that of the principal that is logged in.
func (a *roleApply) ownObjectID() string {
	if a.check.facts.objectID == "" {
		return "ID"
	}
	return a.check.facts.objectID
}

func (a *roleApply) host() string { return a.check.hosts[0].name }

func (a *roleApply) principalName() string {
	if a.role.ObjectID != "" {
		return "with object id " + a.role.ObjectID
	}
	return fmt.Sprintf("%q", a.role.Name)
}

// lookUp are commands that find principals by what is given.
func (a *roleApply) lookUp() []string {
	const columns = ` --query "[].{name:displayName, id:id}" -o table`
	if id := a.role.ObjectID; id != "" {
		return []string{"az rest --url https://graph.microsoft.com/v1.0/directoryObjects/" + id}
	}
	name := diag.ShellQuote(a.role.Name)
	user := "az ad user list --upn " + name + ` --query "[].{name:userPrincipalName, id:id}" -o table`
	group, service := "az ad group list --display-name "+name+columns, "az ad sp list --display-name "+name+columns
	switch {
	case objectTypes[a.role.Kind] == "user", a.role.Kind == "" && strings.Contains(a.role.Name, "@"):
		return []string{user}
	case a.role.Kind == "group":
		return []string{group}
	case a.role.Kind == "":
		return []string{service, group}
	}
	return []string{service}
}
