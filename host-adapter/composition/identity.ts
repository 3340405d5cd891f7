import { CertificateStore } from '../catalogue/certificate-store';
import { EventStore } from '../catalogue/event-store';
import { IdentityStore } from '../catalogue/identity-store';
import { ProcessStore } from '../catalogue/process-store';
import { UserStore } from '../catalogue/user-store';
import { CertificateWatch } from '../identity/certificate-watch';
import { Enrolment } from '../identity/enrolment';
import { Rotation } from '../identity/rotation';
import { Throttle } from '../identity/throttle';
import { Users } from '../identity/users';
import { observedCertificates } from '../inventory/observed-certificates';
import { MoverConnections } from '../registry/mover-connections';
import { MoverRegistry } from '../registry/mover-registry';
import { PluginConnections } from '../registry/plugin-connections';
import { PluginRegistry } from '../registry/plugin-registry';
import type { Foundation, Once } from './foundation';
import { tokens } from './tokens';

const minuteMs = 60_000;

/** Who belongs to the installation: users, certificates, plug-ins and movers that registered, and connections to them. */
export function registerIdentity(once: Once, foundation: Foundation): void {
  const { config, logger, now, db, settings, authority, consoleCertificate } = foundation;
  once(tokens.identities, () => new IdentityStore(db));
  once(tokens.processes, () => new ProcessStore(db));
  once(tokens.events, () => new EventStore(db));
  once(tokens.users, () => new Users(new UserStore(db), settings, new Throttle(10, minuteMs), now));
  once(tokens.certificates, () => new CertificateStore(db));
  once(
    tokens.enrolment,
    (get) => new Enrolment(authority, get(tokens.identities), new Throttle(20, minuteMs), now, get(tokens.certificates)),
  );
  once(
    tokens.rotation,
    (get) => new Rotation(authority, get(tokens.identities), get(tokens.certificates), get(tokens.events), logger, now),
  );
  once(tokens.plugins, (get) => new PluginRegistry(get(tokens.identities), get(tokens.processes), get(tokens.events), now, config.leaseMs));
  once(tokens.movers, (get) => new MoverRegistry(get(tokens.identities), get(tokens.processes), now, config.leaseMs));
  once(tokens.pluginConnections, (get) => new PluginConnections(get(tokens.plugins), authority.own));
  once(tokens.moverConnections, (get) => new MoverConnections(get(tokens.movers), authority.own));
  once(
    tokens.watch,
    (get) =>
      new CertificateWatch(
        authority,
        get(tokens.rotation),
        (refresh) => observedCertificates(get(tokens.pluginConnections), get(tokens.platforms), refresh),
        get(tokens.certificates),
        get(tokens.events),
        now,
        consoleCertificate,
      ),
  );
}
