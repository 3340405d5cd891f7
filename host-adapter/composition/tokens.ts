import type { InjectionToken } from 'tsyringe';
import type { CareStore } from '../catalogue/care-store';
import type { CertificateStore } from '../catalogue/certificate-store';
import type { EventStore } from '../catalogue/event-store';
import type { HoldStore } from '../catalogue/hold-store';
import type { IdentityStore } from '../catalogue/identity-store';
import type { JobStore } from '../catalogue/job-store';
import type { PointStore } from '../catalogue/point-store';
import type { ProcessStore } from '../catalogue/process-store';
import type { SessionStore } from '../catalogue/session-store';
import type { ConfigurationCopies } from '../configuration/configuration-copies';
import type { ConfigurationKey } from '../configuration/configuration-key';
import type { ConsoleServer } from '../console/console-server';
import type { Doctor } from '../console/doctor';
import type { CertificateWatch } from '../identity/certificate-watch';
import type { Enrolment } from '../identity/enrolment';
import type { Rotation } from '../identity/rotation';
import type { Users } from '../identity/users';
import type { Candidates } from '../data-paths/candidates';
import type { MoverLoads } from '../data-paths/mover-loads';
import type { SessionPaths } from '../data-paths/session-paths';
import type { Platforms } from '../inventory/platforms';
import type { VirtualMachines } from '../inventory/virtual-machines';
import type { JobSelection } from '../jobs/job-selection';
import type { OperationFollower } from '../jobs/operation-follower';
import type { SessionEngine } from '../jobs/session-engine';
import type { Slots } from '../jobs/slots';
import type { CareKeeper } from '../maintenance/care-keeper';
import type { PointMaintenance } from '../maintenance/point-maintenance';
import type { GrpcServer } from '../registry/grpc-server';
import type { MoverConnections } from '../registry/mover-connections';
import type { MoverRegistry } from '../registry/mover-registry';
import type { PluginConnections } from '../registry/plugin-connections';
import type { PluginRegistry } from '../registry/plugin-registry';
import type { MoverSessions } from '../repositories/mover-sessions';
import type { MoverArrivals } from '../repositories/mover-arrivals';
import type { Repositories } from '../repositories/repositories';
import type { RepositoryAccess } from '../repositories/repository-access';
import type { RepositoryEdit } from '../repositories/repository-edit';
import type { RepositoryGateways } from '../repositories/repository-gateways';
import type { RepositoryMovers } from '../repositories/repository-movers';
import type { RepositorySecrets } from '../repositories/repository-secrets';
import type { RestorePlanner } from '../restores/restore-planner';
import type { AllInOne } from '../supervision/all-in-one';
import type { Fleet } from '../workers/fleet';
import type { WorkerPlanner } from '../workers/worker-planner';
import type { WorkerPreparation } from '../workers/worker-preparation';

const token = <T>(name: string) => Symbol(name) as InjectionToken<T>;
/** What the parts of a server are known by to each other. */
export const tokens = {
  identities: token<IdentityStore>('identities'),
  processes: token<ProcessStore>('processes'),
  events: token<EventStore>('events'),
  users: token<Users>('users'),
  jobs: token<JobStore>('jobs'),
  points: token<PointStore>('points'),
  sessions: token<SessionStore>('sessions'),
  enrolment: token<Enrolment>('enrolment'),
  certificates: token<CertificateStore>('certificates'),
  rotation: token<Rotation>('rotation'),
  watch: token<CertificateWatch>('watch'),
  plugins: token<PluginRegistry>('plugins'),
  movers: token<MoverRegistry>('movers'),
  pluginConnections: token<PluginConnections>('pluginConnections'),
  moverConnections: token<MoverConnections>('moverConnections'),
  platforms: token<Platforms>('platforms'),
  vms: token<VirtualMachines>('vms'),
  repositories: token<Repositories>('repositories'),
  repositorySecrets: token<RepositorySecrets>('repositorySecrets'),
  repositoryMovers: token<RepositoryMovers>('repositoryMovers'),
  repositoryGateways: token<RepositoryGateways>('repositoryGateways'),
  repositoryEdit: token<RepositoryEdit>('repositoryEdit'),
  repositoryAccess: token<RepositoryAccess>('repositoryAccess'),
  moverArrivals: token<MoverArrivals>('moverArrivals'),
  holds: token<HoldStore>('holds'),
  care: token<CareStore>('care'),
  configurationKey: token<ConfigurationKey>('configurationKey'),
  copies: token<ConfigurationCopies>('copies'),
  pointMaintenance: token<PointMaintenance>('pointMaintenance'),
  careKeeper: token<CareKeeper>('careKeeper'),
  moverSessions: token<MoverSessions>('moverSessions'),
  moverLoads: token<MoverLoads>('moverLoads'),
  candidates: token<Candidates>('candidates'),
  paths: token<SessionPaths>('paths'),
  follower: token<OperationFollower>('follower'),
  selection: token<JobSelection>('selection'),
  preparation: token<WorkerPreparation>('preparation'),
  fleet: token<Fleet>('fleet'),
  workerPlanner: token<WorkerPlanner>('workerPlanner'),
  slots: token<Slots>('slots'),
  engine: token<SessionEngine>('engine'),
  planner: token<RestorePlanner>('planner'),
  doctor: token<Doctor>('doctor'),
  control: token<GrpcServer>('control'),
  enrolmentPort: token<GrpcServer>('enrolmentPort'),
  console: token<ConsoleServer>('console'),
  children: token<AllInOne>('children'),
};
