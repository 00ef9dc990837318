package roles

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

// A right is something that a role is to have.
type right struct {
	step        string
	text        string
	notes       []string
	isWarning   bool
	alterations []alteration // what is left to do: none if the right is there
}

// An alteration is SQL that gives a part of a right.
type alteration struct {
	sql string
	on  string // what it changes and so locks, such as: table public.orders
}

// A plan is what a role is to have in a database, and what is left to do for it.
type plan struct {
	rights []right
	taken  []ownedObject // what is to change hands
}

// A planner finds out from the catalogs of a database what a role is to have and has not. It writes nothing, and
// takes no lock that anybody waits for.
type planner struct {
	role     Role
	tx       pgx.Tx
	admin    string // who asks
	creators []creatorRole
}

// newPlanner has found out who makes tables in the schema.
func newPlanner(ctx context.Context, role Role, tx pgx.Tx) (*planner, error) {
	p := &planner{role: role, tx: tx}
	// Names that a query does not qualify are PostgreSQL's own, whatever others have put into this database.
	if _, err := tx.Exec(ctx, "set local search_path = pg_catalog"); err != nil {
		return nil, err
	}
	err := tx.QueryRow(ctx, "select current_user").Scan(&p.admin)
	if err == nil {
		p.creators, err = p.readCreators(ctx)
	}
	return p, err
}

// actors are the administrator and the creators that it may act for.
func (p *planner) actors() []string {
	names := []string{p.admin}
	for _, c := range p.creators {
		if c.mayActFor() && c.name != p.admin {
			names = append(names, c.name)
		}
	}
	return names
}

// read finds out. An error is a *workError if it says what cannot be done.
func (p *planner) read(ctx context.Context) (found plan, err error) {
	schema, schemaExists, err := p.ensureSchema(ctx)
	if err != nil {
		return found, err
	}
	for _, part := range []func(context.Context, *plan) error{p.onDatabase, p.inSchema(schemaExists)} {
		if err := part(ctx, &found); err != nil {
			return found, err
		}
	}
	found.rights = append(schema, found.rights...)
	if p.role.Grant == Owner {
		return found, p.ownership(ctx, &found)
	}
	for _, kind := range objectKinds(p.role.Grant) {
		objects, err := p.onObjects(ctx, kind)
		if err != nil {
			return found, err
		}
		future, err := p.onFuture(ctx, kind)
		if err != nil {
			return found, err
		}
		found.rights = append(found.rights, objects, future)
	}
	return found, nil
}

// verify looks at what has come of a plan: PostgreSQL only warns where it grants less than it was told.
func (p *planner) verify(ctx context.Context, done plan) error {
	now, err := p.read(ctx)
	if err != nil {
		return err
	}
	members, err := p.formerOwners(ctx, done.taken)
	if err != nil {
		return err
	}
	now.rights = append(now.rights, members...)
	for _, r := range now.rights {
		if len(r.alterations) > 0 {
			return mayNotGrant(r.step, "PostgreSQL has not done what it was told on "+r.alterations[0].on)
		}
	}
	return nil
}

// ensureSchema is the schema itself, if it is missing: it is made for an owner.
func (p *planner) ensureSchema(ctx context.Context) (missing []right, exists bool, err error) {
	schema := p.role.Schema
	var mayCreate bool
	err = p.tx.QueryRow(ctx, `select exists (select from pg_namespace where nspname = $1),
		has_database_privilege(current_database(), 'CREATE')`, schema).Scan(&exists, &mayCreate)
	switch {
	case err != nil || exists:
		return nil, exists, err
	case p.role.Grant != Owner:
		return nil, false, &workError{step: "schema",
			err: fmt.Errorf("database %q has no schema %q", p.role.Database, schema),
			diagnosis: &diagnosis.Diagnosis{Cause: NoSchema, Status: diagnosis.Database, Meaning: fmt.Sprintf(
				"The database %q has no schema %q. Names are case-sensitive. --grant owner makes it, for the role that is to "+
					"own what is in it.", p.role.Database, schema),
				Fix: []string{statement.CreateSchema(schema)}}}
	case !mayCreate:
		return nil, false, mayNotGrant("schema", "permission denied for database "+p.role.Database)
	}
	name := fmt.Sprintf("schema %q", schema)
	return []right{{step: "schema", text: name, alterations: []alteration{{statement.CreateSchema(schema), name}}}}, false,
		nil
}

// grantee is a part of queries: the role, or PUBLIC as long as there is none.
const grantee = `grantee as (select r.oid, coalesce(r.rolname, 'public') as name
	from (values ($1::name)) as wanted(name) left join pg_roles r on r.rolname = wanted.name)`

// stateOf is a part of queries: whether the grantee is granted all of privileges $2 itself, whether one of the roles $3
// may grant each, and whether it has them by whatever way. The arguments are an ACL, a has_…_privilege and an object.
func stateOf(acl, has, object string) string {
	each := func(condition string) string {
		return "(select coalesce(bool_and(" + condition + "), false) from unnest($2::text[]) privilege)"
	}
	return each(`exists (select from aclexplode(`+acl+`) a
			where a.grantee = grantee.oid and a.privilege_type = privilege)`) + `,
		` + each(`exists (select from unnest($3::name[]) actor
			where `+has+`(actor, `+object+`, privilege || ' WITH GRANT OPTION'))`) + `,
		` + each(has+`(grantee.name, `+object+`, privilege)`)
}

var (
	databaseQuery = `with ` + grantee + ` select ` +
		stateOf("coalesce(d.datacl, acldefault('d', d.datdba))", "has_database_privilege", "d.oid") + `
		from pg_database d, grantee where d.datname = current_database()`
	schemaQuery = `with ` + grantee + ` select ` +
		stateOf("coalesce(n.nspacl, acldefault('n', n.nspowner))", "has_schema_privilege", "n.oid") + `
		from pg_namespace n, grantee where n.nspname = $4`
	tablesQuery    = objectsQuery("r", "has_table_privilege", "c.relkind in ('r', 'p', 'v', 'm', 'f')")
	sequencesQuery = objectsQuery("s", "has_sequence_privilege", "c.relkind = 'S'")
)

func objectsQuery(aclKind, has, condition string) string {
	return `with ` + grantee + ` select format('%I.%I', n.nspname, c.relname), c.relowner::regrole::text, ` +
		stateOf("coalesce(c.relacl, acldefault('"+aclKind+"', c.relowner))", has, "c.oid") + `
		from pg_class c join pg_namespace n on n.oid = c.relnamespace, grantee
		where n.nspname = $4 and ` + condition + ` and ` + notOfAnExtension("pg_class", "c.oid") + ` order by 1`
}

// notOfAnExtension leaves out what belongs to an extension, such as the views of pg_stat_statements: nobody's to grant.
func notOfAnExtension(catalog, oid string) string {
	return `not exists (select from pg_depend e
		where e.classid = '` + catalog + `'::regclass and e.objid = ` + oid + ` and e.deptype = 'e')`
}

// privilegeState is what the catalogs say of a role's privileges on an object.
type privilegeState struct{ granted, grantable, effective bool }

// isThere reports whether nothing is to be granted. PostgreSQL would only warn of what nobody may grant, which does not
// matter where the role has it in another way, as by PUBLIC.
func (s privilegeState) isThere() bool { return s.granted || s.effective && !s.grantable }

func upperList(privileges string) []string { return strings.Split(strings.ToUpper(privileges), ", ") }

// onDatabase is the right to connect.
func (p *planner) onDatabase(ctx context.Context, plan *plan) error {
	var s privilegeState
	err := p.tx.QueryRow(ctx, databaseQuery, p.role.Name, []string{"CONNECT"}, p.actors()).
		Scan(&s.granted, &s.grantable, &s.effective)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("database %q", p.role.Database)
	r := right{step: "database", text: "connect to " + name}
	return plan.add(r, s, alteration{statement.GrantConnect(p.role.Name, p.role.Database), name})
}

// inSchema is the right to use the schema, and for an owner to create in it.
func (p *planner) inSchema(exists bool) func(context.Context, *plan) error {
	return func(ctx context.Context, plan *plan) error {
		name := fmt.Sprintf("schema %q", p.role.Schema)
		privileges, text := "usage", "usage of "+name
		if p.role.Grant == Owner {
			privileges, text = "usage, create", "usage of "+name+", and to create in it"
		}
		s := privilegeState{grantable: true} // of a schema that is still to be made
		if exists {
			err := p.tx.QueryRow(ctx, schemaQuery, p.role.Name, upperList(privileges), p.actors(), p.role.Schema).
				Scan(&s.granted, &s.grantable, &s.effective)
			if err != nil {
				return err
			}
		}
		return plan.add(right{step: "schema", text: text}, s,
			alteration{statement.GrantOn(p.role.Name, privileges, "schema "+statement.Identifier(p.role.Schema)), name})
	}
}

// add adds a right that one statement gives.
func (p *plan) add(r right, s privilegeState, give alteration) error {
	if !s.isThere() {
		if !s.grantable {
			return mayNotGrant(r.step, "permission denied for "+give.on)
		}
		r.alterations = []alteration{give}
	}
	p.rights = append(p.rights, r)
	return nil
}

// objectKind is a kind of object with the privileges on it.
type objectKind struct{ name, privileges, query, defaultACL string }

func objectKinds(rights string) []objectKind {
	write := rights == ReadWrite
	kinds := []objectKind{{"tables", statement.TablePrivileges(write), tablesQuery, "r"}}
	if write {
		kinds = append(kinds, objectKind{"sequences", statement.SequencePrivileges, sequencesQuery, "S"})
	}
	return kinds
}

// onObjects is the right to what is there. The objects are named one by one: ALL TABLES has those of extensions in it,
// and a failure is to name the one that is in use.
func (p *planner) onObjects(ctx context.Context, kind objectKind) (right, error) {
	r := right{step: kind.name}
	rows, err := p.tx.Query(ctx, kind.query, p.role.Name, upperList(kind.privileges), p.actors(), p.role.Schema)
	if err != nil {
		return r, err
	}
	var name, owner string
	var s privilegeState
	count, singular := 0, strings.TrimSuffix(kind.name, "s")
	var lacking error
	_, err = pgx.ForEachRow(rows, []any{&name, &owner, &s.granted, &s.grantable, &s.effective}, func() error {
		count++
		if s.isThere() {
			return nil
		}
		if !s.grantable && lacking == nil {
			lacking = p.mayNotGrantOn(kind, name, owner)
		}
		r.alterations = append(r.alterations,
			alteration{statement.GrantOn(p.role.Name, kind.privileges, singular+" "+name), singular + " " + name})
		return nil
	})
	r.text = fmt.Sprintf("%s on the %d %s in schema %q", kind.privileges, count, kind.name, p.role.Schema)
	if err == nil {
		err = lacking
	}
	return r, err
}

// defaultsQuery tells of creators $3 whether the role gets privileges $2 on what they make.
const defaultsQuery = `with ` + grantee + ` select creator,
	(select bool_and(exists (select from pg_default_acl d join pg_namespace n on n.oid = d.defaclnamespace,
			aclexplode(d.defaclacl) a
		where n.nspname = $4 and d.defaclobjtype::text = $5 and a.grantee = grantee.oid and a.privilege_type = privilege
			and d.defaclrole = (select oid from pg_roles where rolname = creator)))
		from unnest($2::text[]) privilege)
	from unnest($3::name[]) creator, grantee order by 1`

// onFuture is the right to what the creators will make: PostgreSQL keeps it for each of them.
func (p *planner) onFuture(ctx context.Context, kind objectKind) (right, error) {
	r := right{step: "future"}
	var by []string
	for _, c := range p.creators {
		if c.mayActFor() {
			by = append(by, fmt.Sprintf("%q", c.name))
			continue
		}
		r.isWarning = true
		r.notes = append(r.notes, fmt.Sprintf("not for what %q makes, whom this administrator may not act for; as that "+
			"role: %s", c.name, statement.GrantFuture(p.role.Name, c.name, p.role.Schema, kind.privileges, kind.name)))
	}
	if by == nil {
		by = []string{"nobody but itself"}
	}
	r.text = fmt.Sprintf("%s on %s that are made later by %s", kind.privileges, kind.name, strings.Join(by, ", "))
	rows, err := p.tx.Query(ctx, defaultsQuery, p.role.Name, upperList(kind.privileges), p.actors(), p.role.Schema,
		kind.defaultACL)
	if err != nil {
		return r, err
	}
	var creator string
	var granted bool
	_, err = pgx.ForEachRow(rows, []any{&creator, &granted}, func() error {
		if !granted && slices.ContainsFunc(p.creators, func(c creatorRole) bool { return c.name == creator }) {
			r.alterations = append(r.alterations, alteration{
				statement.GrantFuture(p.role.Name, creator, p.role.Schema, kind.privileges, kind.name),
				fmt.Sprintf("the default privileges of %q", creator)})
		}
		return nil
	})
	return r, err
}
