import { bytes, duration, millis, moment, whole } from '../../design/format';
import { Deed, Empty, Facts, Heading, Outcome, Pill } from '../pieces';
import { useApi, useQuery } from '../query';
import type { DeadLetters, RelayAgents, RelaySummary } from '../shapes';
import { Breaker } from './proxies';

const EVERY_MS = 3_000;
const OFF = 'The relay is off (relay.enabled), and with it the outbox.';

export function Relay() {
  const summary = useQuery<RelaySummary>('/admin/relay', EVERY_MS);
  const failed = summary.data?.outbox.failed;
  return (
    <>
      <Heading title="Relay and outbox">{summary.data && (failed ? <Pill tone="bad">takes nothing: {failed}</Pill> : <Pill tone="good">takes messages</Pill>)}</Heading>
      <Outcome query={summary} off={OFF}>
        {(relay) => (
          <>
            <Summary relay={relay} />
            <Agents />
            <Letters />
          </>
        )}
      </Outcome>
    </>
  );
}

function Summary({ relay }: { relay: RelaySummary }) {
  const { messages, held, outbox, agents, clients } = relay;
  const sum = (counts: Record<string, number>) => Object.values(counts).reduce((all, each) => all + each, 0);
  return (
    <>
      <Facts
        facts={[
          ['Waiting', whole(held.pending)],
          ['Oldest', held.pending > 0 ? duration(held.oldestSeconds) : '–'],
          ['Dead letters', whole(held.deadLetters)],
          ['Agents up', `${whole(agents.up)} of ${whole(agents.known)}`],
          ['Clients', whole(clients.connected)],
        ]}
      />
      <div className="charts">
        <section className="card">
          <h2>Messages since the start</h2>
          <dl className="rows">
            {[
              ['received', messages.received],
              ['safe in the outbox', messages.durable],
              ['delivered', messages.delivered],
              ['sent again by clients', messages.duplicate],
              ['tried again', messages.retried],
              ['refused', sum(messages.refused)],
              ['given up', sum(messages.dead)],
            ].map(([name, count]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{whole(count as number)}</dd>
              </div>
            ))}
          </dl>
        </section>
        <section className="card">
          <h2>Outbox</h2>
          <dl className="rows">
            <div><dt>records appended</dt><dd>{whole(outbox.appended)}</dd></div>
            <div><dt>settled</dt><dd>{whole(outbox.settled)}</dd></div>
            <div><dt>unsettled</dt><dd>{whole(outbox.unsettled)}</dd></div>
            <div><dt>on disk</dt><dd>{bytes(outbox.bytes)}</dd></div>
            <div><dt>syncs</dt><dd>{whole(outbox.syncs)}</dd></div>
            <div><dt>sync, 99th percentile</dt><dd>{millis(outbox.syncP99Seconds * 1_000)}</dd></div>
            <div><dt>damaged records</dt><dd>{whole(outbox.corrupt)}</dd></div>
          </dl>
        </section>
      </div>
    </>
  );
}

function Agents() {
  const found = useQuery<RelayAgents>('/admin/relay/agents?limit=100', EVERY_MS);
  return (
    <section>
      <h2 className="part">Agents</h2>
      <Outcome query={found}>
        {({ agents, total }) =>
          agents.length === 0 ? (
            <Empty>No agent has a lane or a connection.</Empty>
          ) : (
            <>
              <div className="scroll" tabIndex={0} role="region" aria-label="Agents">
                <table>
                  <thead>
                    <tr>
                      <th scope="col">Agent</th>
                      <th scope="col">Connection</th>
                      <th scope="col">Breaker</th>
                      <th scope="col" className="number">Waiting</th>
                      <th scope="col" className="number">In flight</th>
                      <th scope="col" className="number">Delivered</th>
                      <th scope="col">Last error</th>
                    </tr>
                  </thead>
                  <tbody>
                    {agents.map((agent) => (
                      <tr key={agent.url}>
                        <td className="mono wrap">{agent.url}</td>
                        <td>
                          <Pill tone={agent.state === 'up' ? 'good' : agent.state === 'waiting' ? 'warn' : undefined}>{agent.state}</Pill>
                        </td>
                        <td>
                          <Breaker state={agent.breaker} />
                        </td>
                        <td className="number">{whole(agent.queueDepth)}</td>
                        <td className="number">{whole(agent.inFlight)}</td>
                        <td className="number">{whole(agent.delivered)}</td>
                        <td className="wrap">{agent.lastError ?? '–'}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
              {total > agents.length && <p className="quiet">The {whole(agents.length)} with the longest lanes, of {whole(total)}.</p>}
            </>
          )
        }
      </Outcome>
    </section>
  );
}

function Letters() {
  const api = useApi();
  const found = useQuery<DeadLetters>('/admin/relay/dead-letters?limit=50', 10_000);
  return (
    <section>
      <h2 className="part">Dead letters</h2>
      <Outcome query={found}>
        {({ deadLetters, next }) =>
          deadLetters.length === 0 ? (
            <Empty>No message was given up.</Empty>
          ) : (
            <>
              <div className="scroll" tabIndex={0} role="region" aria-label="Dead letters">
                <table>
                  <thead>
                    <tr>
                      <th scope="col" className="number">Id</th>
                      <th scope="col">Client</th>
                      <th scope="col">Priority</th>
                      <th scope="col">Why</th>
                      <th scope="col">Given up</th>
                      <th scope="col" className="number">Size</th>
                      <th scope="col"><span className="heard">Actions</span></th>
                    </tr>
                  </thead>
                  <tbody>
                    {deadLetters.map((letter) => (
                      <tr key={letter.id}>
                        <td className="number mono">{letter.id}</td>
                        <td className="mono">{letter.clientId}</td>
                        <td>{letter.priority}</td>
                        <td className="wrap">{letter.reason}</td>
                        <td>{moment(letter.deadAt)}</td>
                        <td className="number">{bytes(letter.size)}</td>
                        <td className="actions">
                          <Deed label="Replay" title={`Replay letter ${letter.id}`} question={<><h2>Send letter {letter.id} on its way again?</h2><p>It goes to the agent that the routes name now.</p></>} sure="Replay" act={async () => { await api.ask(`/admin/relay/dead-letters/${letter.id}/replay`, { method: 'POST' }); found.refresh(); }} />
                          <Deed label="Forget" title={`Forget letter ${letter.id}`} danger question={<><h2>Forget letter {letter.id}?</h2><p>The message is gone for good then.</p></>} sure="Forget" act={async () => { await api.ask(`/admin/relay/dead-letters/${letter.id}`, { method: 'DELETE' }); found.refresh(); }} />
                        </td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
              {next !== undefined && <p className="quiet">The oldest {whole(deadLetters.length)}; there are more.</p>}
            </>
          )
        }
      </Outcome>
    </section>
  );
}
