/** Answers of the administrator's API, as far as the console reads them. */

export interface Overview {
  node: string;
  version: string;
  uptime_seconds: number;
  time_ms: number;
  stage: string;
  connections: number;
  users: number;
  channels: number;
  subscriptions: number;
  /** Counters since the start. */
  messages_in: number;
  messages_out: number;
  bytes_in: number;
  bytes_out: number;
  drops: Record<string, number>;
  cpu_seconds: number;
  cores: number;
  resident_bytes: number;
  limit_bytes: number;
  bus: { kind: string; state: string; published: number; losses: number };
  /** `null` where it is off, as is the proxy. */
  relay: { pending: number; dead_letters: number; received: number; delivered: number; agents_up: number } | null;
  proxy: { routes: number; in_flight: number } | null;
}

export interface Connection {
  client: string;
  user: string;
  address: string;
  transport: string;
  encoding: string;
  dialect?: string;
  /** Unix seconds. */
  connected_at: number;
  channels: number;
  queue_bytes: number;
}

export interface Connections {
  connections: Connection[];
  next?: string;
}

export interface ConnectionDetail extends Connection {
  expires_at: number | null;
  channel_names: string[];
}

export interface Channels {
  channels: { name: string; subscribers: number }[];
  next?: string;
}

export interface Presence {
  presence: Record<string, { user: string; client: string }>;
}

export interface ProxyRecords {
  totalItems: number;
  items: ProxyRecord[];
}

export interface ProxyRecord {
  id: string;
  [field: string]: unknown;
}

export interface ProxyExplanation {
  decision: string;
  route: { id: string; name: string; prefix: string } | null;
  access?: { rule: string; guest: boolean; user: boolean; superuser: boolean };
  limiter?: { mode: string; limit: number; inFlight: number; queue: number; waiting: number };
  upstreams: ProxyUpstream[];
}

export interface ProxyUpstream {
  url: string;
  weight: number;
  breaker: 'off' | 'closed' | 'open' | 'half_open' | 'ramp';
  retryAfterMs?: number;
  ejected: boolean;
  latencyMs: number | null;
  inFlight: number;
  eligible: boolean;
}

export interface RelaySummary {
  clients: { connected: number; connections: number };
  messages: {
    received: number;
    accepted: number;
    durable: number;
    duplicate: number;
    delivered: number;
    retried: number;
    refused: Record<string, number>;
    dead: Record<string, number>;
  };
  answers: { passed: number; dropped: number };
  held: { pending: number; oldestSeconds: number; bytes: number; deadLetters: number; remembered: number };
  agents: { known: number; up: number; waiting: number; inFlight: number };
  outbox: { appended: number; settled: number; unsettled: number; bytes: number; syncs: number; syncP99Seconds: number; corrupt: number; failed: string | null };
}

export interface RelayAgents {
  total: number;
  agents: { url: string; state: string; queueDepth: number; inFlight: number; breaker: string; retryAfterMs?: number; lastError: string | null; delivered: number; answers: number }[];
}

export interface DeadLetters {
  deadLetters: { id: number; clientId: string; priority: string; reason: string; acceptedAt: number; deadAt: number; size: number }[];
  next?: number;
}

/** A flag is on or off, or on for a share of the users. */
export type FlagValue = boolean | { enabled: boolean; percentage?: number | null };

export interface Flags {
  flags: Record<string, FlagValue>;
  version: number;
}
