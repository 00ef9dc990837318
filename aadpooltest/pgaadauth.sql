-- What Azure Database for PostgreSQL has for Microsoft Entra administrators, in the database postgres, as documented:
-- https://learn.microsoft.com/azure/postgresql/security/security-manage-entra-users
-- The principals of the tenant, which Azure asks Microsoft Graph for, are in a table that the Go process fills.
-- Run as one transaction, by a superuser; running it again changes nothing.

SELECT pg_advisory_xact_lock(hashtext('aadpooltest'));

DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'azure_pg_admin') THEN
    CREATE ROLE azure_pg_admin NOLOGIN;
  END IF;
END $$;

CREATE SCHEMA IF NOT EXISTS aadpooltest;
GRANT USAGE ON SCHEMA aadpooltest TO PUBLIC;

CREATE UNLOGGED TABLE IF NOT EXISTS aadpooltest.principal (
  tenant text NOT NULL, name text NOT NULL, object_id text NOT NULL, type text NOT NULL);

-- The labels that map roles to principals. No provider has to be loaded for them to be read, but SECURITY LABEL needs one.
CREATE OR REPLACE VIEW aadpooltest.label AS
  SELECT r.oid AS role, r.rolname, l.label,
    substring(l.label FROM 'oid=([^,]+)') AS object_id,
    substring(l.label FROM 'type=([^,]+)') AS type,
    'admin' = ANY (string_to_array(l.label, ',')) AS admin,
    'mfa' = ANY (string_to_array(l.label, ',')) AS mfa
  FROM pg_catalog.pg_shseclabel l
  JOIN pg_catalog.pg_roles r ON r.oid = l.objoid
  WHERE l.provider = 'pgaadauth' AND l.classoid = 'pg_catalog.pg_authid'::regclass;
GRANT SELECT ON aadpooltest.label TO PUBLIC;

-- Only a superuser may call it.
CREATE OR REPLACE FUNCTION aadpooltest.set_label(role_name text, object_id text, type text, admin boolean, mfa boolean)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  DELETE FROM pg_shseclabel l USING pg_roles r
    WHERE l.objoid = r.oid AND r.rolname = role_name AND l.classoid = 'pg_authid'::regclass AND l.provider = 'pgaadauth';
  INSERT INTO pg_shseclabel (objoid, classoid, provider, label)
    SELECT r.oid, 'pg_authid'::regclass, 'pgaadauth', 'aadauth,oid=' || object_id || ',type=' || type
      || CASE WHEN admin THEN ',admin' ELSE '' END || CASE WHEN mfa THEN ',mfa' ELSE '' END
    FROM pg_roles r WHERE r.rolname = role_name;
  IF admin THEN
    EXECUTE format('GRANT azure_pg_admin TO %I WITH ADMIN OPTION', role_name);
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION aadpooltest.set_label FROM PUBLIC;

-- Maps a role that the caller has just made to a principal: the one of the role's name, or of an object ID and type.
CREATE OR REPLACE FUNCTION aadpooltest.map_role(role_name text, oid text, given_type text, admin boolean, mfa boolean)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found_ids text[];
  found_type text;
BEGIN
  IF NOT EXISTS (SELECT FROM aadpooltest.label l WHERE l.rolname = session_user AND l.admin) THEN
    RAISE insufficient_privilege USING MESSAGE = format(
      'permission denied: role %I is not a Microsoft Entra administrator', session_user);
  END IF;
  SELECT array_agg(p.object_id), min(p.type) INTO found_ids, found_type
    FROM aadpooltest.principal p
    WHERE p.tenant = current_setting('aadpooltest.tenant', true)
      AND CASE WHEN oid IS NULL THEN p.name = role_name ELSE p.object_id = lower(oid) END;
  IF found_ids IS NULL THEN
    RAISE internal_error USING MESSAGE = format(
      'Could not validate AAD user %s because its name is not found in the tenant.', coalesce(oid, quote_ident(role_name)));
  ELSIF cardinality(found_ids) > 1 THEN
    RAISE internal_error USING MESSAGE = format(
      'Could not validate AAD user %I because its name is not unique in the tenant.', role_name);
  ELSIF given_type <> found_type THEN
    RAISE internal_error USING MESSAGE = format(
      'incorrect object type provided for principal, given object type: ''%s'', actual object type: ''%s''',
      given_type, found_type);
  END IF;
  PERFORM aadpooltest.set_label(role_name, found_ids[1], found_type, coalesce(admin, false), coalesce(mfa, false));
END $$;

-- Run with the caller's rights: PostgreSQL itself says who may create roles, and that a role exists.
CREATE OR REPLACE FUNCTION aadpooltest.create_role(role_name text, admin boolean)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE ROLE %I LOGIN', role_name)
    || CASE WHEN admin THEN ' CREATEROLE CREATEDB IN ROLE azure_pg_admin' ELSE '' END;
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.pgaadauth_create_principal(rolename text, isadmin boolean, ismfa boolean)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM aadpooltest.create_role(rolename, isadmin);
  PERFORM aadpooltest.map_role(rolename, NULL, NULL, isadmin, ismfa);
  RETURN 'Created role for ' || quote_ident(rolename);
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.pgaadauth_create_principal_with_oid(
  rolename text, objectid text, objecttype text, isadmin boolean, ismfa boolean)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM aadpooltest.create_role(rolename, isadmin);
  PERFORM aadpooltest.map_role(rolename, coalesce(objectid, ''), objecttype, isadmin, ismfa);
  RETURN 'Created role for ' || quote_ident(rolename);
END $$;

-- The documentation calls the first column rolename; Microsoft's samples, which run, say rolname:
-- https://github.com/Azure-Samples/rag-postgres-openai-python/blob/main/src/backend/fastapi_app/setup_postgres_azurerole.py
CREATE OR REPLACE FUNCTION pg_catalog.pgaadauth_list_principals(isadminvalue boolean)
RETURNS TABLE (rolname name, principaltype text, objectid text, tenantid text, ismfa integer, isadmin integer)
LANGUAGE sql STABLE AS $$
  SELECT l.rolname, l.type, l.object_id, current_setting('aadpooltest.tenant', true), l.mfa::int, l.admin::int
  FROM aadpooltest.label l WHERE l.admin OR NOT isadminvalue ORDER BY l.rolname
$$;
