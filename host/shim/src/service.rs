//! The task service, version 2, that containerd calls over the shim's socket
//! (<https://github.com/containerd/containerd/blob/main/core/runtime/v2/README.md>).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use containerd_shim::api::{
    CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse,
    DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PidsRequest,
    PidsResponse, ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse,
    StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim::mount::mount_rootfs;
use containerd_shim::protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskIO, TaskOOM, TaskStart,
};
use containerd_shim::protos::ttrpc;
use containerd_shim::protos::types::task::ProcessInfo;
use containerd_shim::{ExitSignal, Task as TaskService, TtrpcContext, TtrpcResult, api};

use super::container::SignalTarget;
use super::container_health::ContainerHealth;
use super::events::{Events, exit_event};
use super::exec::{Exec, MAX_EXECS};
use super::panic::catch_panic;
use super::process_state::{Exit, ExitReason, ProcessStatus};
use super::request::ContainerRequest;
use super::stats;
use super::task::{ExecRefusal, Task};

/// The tasks of one pod.
pub struct Service {
    pub namespace: String,
    /// The path of containerd's socket.
    pub containerd: String,
    pub events: Arc<Events>,
    pub exit: Arc<ExitSignal>,
    pub tasks: Tasks,
}

/// Tasks by container id.
pub type Tasks = Arc<Mutex<BTreeMap<String, Arc<Task>>>>;

impl Service {
    fn tasks(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Task>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn task(&self, id: &str) -> TtrpcResult<Arc<Task>> {
        let found = self.tasks().get(id).cloned();
        found.ok_or_else(|| rpc_error(ttrpc::Code::NOT_FOUND, format!("there is no task {id}")))
    }

    /// A container's task, and the command in the container, if the request is about one.
    fn process(&self, id: &str, exec_id: &str) -> TtrpcResult<(Arc<Task>, Option<Arc<Exec>>)> {
        let task = self.task(id)?;
        if exec_id.is_empty() {
            return Ok((task, None));
        }
        let exec = task.exec(exec_id).ok_or_else(|| {
            rpc_error(ttrpc::Code::NOT_FOUND, format!("the task {id} has no command {exec_id}"))
        })?;
        Ok((task, Some(exec)))
    }

    fn create_task(&self, request: &CreateTaskRequest) -> anyhow::Result<Task> {
        let root = Path::new(&request.bundle).join("rootfs");
        std::fs::create_dir_all(&root)?;
        for mount in &request.rootfs {
            let named = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            mount_rootfs(
                named(&mount.type_).as_deref(),
                named(&mount.source).as_deref(),
                &mount.options,
                &root,
            )?;
        }
        let request = ContainerRequest {
            id: request.id.clone(),
            namespace: self.namespace.clone(),
            containerd: self.containerd.clone(),
            bundle: request.bundle.clone().into(),
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
        };
        let events = Arc::clone(&self.events);
        let id = request.id.clone();
        Task::create(request, move |pid, exit| {
            if exit.reason == ExitReason::OutOfMemory {
                // Sent before the exit event, as its explanation.
                events.send(TaskOOM { container_id: id.clone(), ..TaskOOM::default() });
            }
            events.send(exit_event(&id, &id, pid, exit));
        })
    }

    fn start_exec(
        &self,
        exec: Arc<Exec>,
        health: Arc<ContainerHealth>,
        pid: u32,
        request: StartRequest,
    ) -> anyhow::Result<()> {
        let events = Arc::clone(&self.events);
        let StartRequest { id, exec_id, .. } = request;
        let started = TaskExecStarted {
            container_id: id.clone(),
            exec_id: exec_id.clone(),
            pid,
            ..TaskExecStarted::default()
        };
        self.events.send(started);
        exec.start(health, move |exit| events.send(exit_event(&id, &exec_id, pid, exit)))
    }
}

/// The reply after a process was deleted, which may never have been started.
fn deleted(pid: u32, exit: Option<Exit>) -> DeleteResponse {
    DeleteResponse {
        pid,
        exit_status: exit.as_ref().map_or(0, |exit| exit.status),
        exited_at: exit.map(|exit| exit.at).into(),
        ..DeleteResponse::default()
    }
}

fn rpc_error(code: ttrpc::Code, reason: impl ToString) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, reason))
}

fn no_terminal() -> ttrpc::Error {
    let reason = "terminals are not supported: leave out `tty`";
    rpc_error(ttrpc::Code::INVALID_ARGUMENT, reason)
}

fn no_exec() -> ttrpc::Error {
    let reason = "this runtime executes only `/spotter health`, and only in a container with a Spotter application";
    rpc_error(ttrpc::Code::UNIMPLEMENTED, reason)
}

fn failed(error: &anyhow::Error) -> ttrpc::Error {
    rpc_error(ttrpc::Code::UNKNOWN, format!("{error:#}"))
}

/// Whether a request that began then has taken longer than its sender waits. 0 stands for no limit.
fn deadline_has_passed(context: &TtrpcContext, began: Instant) -> bool {
    u64::try_from(context.timeout_nano)
        .is_ok_and(|limit| limit > 0 && began.elapsed() > Duration::from_nanos(limit))
}

impl TaskService for Service {
    /// Errors in an image are found here, so that containerd, and `kubectl describe`, report them.
    fn create(
        &self,
        context: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> TtrpcResult<CreateTaskResponse> {
        let began = Instant::now();
        if request.terminal {
            return Err(no_terminal());
        }
        if !request.checkpoint.is_empty() {
            return Err(rpc_error(ttrpc::Code::UNIMPLEMENTED, "checkpoints are not supported"));
        }
        if self.tasks().contains_key(&request.id) {
            let reason = format!("the task {} already exists", request.id);
            return Err(rpc_error(ttrpc::Code::ALREADY_EXISTS, reason));
        }
        // A panic would end this thread without a reply, for which containerd would wait for ever.
        let created = catch_panic(|| self.create_task(&request));
        let task = created.map_err(|error| failed(&error))?;
        if deadline_has_passed(context, began) {
            // containerd has given up, and would never delete the task.
            task.delete().map_err(|error| failed(&error))?;
            let reason = "creating the container took longer than containerd waits";
            return Err(rpc_error(ttrpc::Code::DEADLINE_EXCEEDED, reason));
        }
        let pid = task.pid;
        self.tasks().insert(request.id.clone(), Arc::new(task));
        self.events.send(TaskCreate {
            container_id: request.id,
            bundle: request.bundle,
            rootfs: request.rootfs,
            io: Some(TaskIO {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                ..TaskIO::default()
            })
            .into(),
            pid,
            ..TaskCreate::default()
        });
        Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() })
    }

    fn start(&self, _: &TtrpcContext, request: StartRequest) -> TtrpcResult<StartResponse> {
        let (task, exec) = self.process(&request.id, &request.exec_id)?;
        let pid = task.pid;
        if let Some(exec) = exec {
            let health = task.health().cloned().ok_or_else(no_exec)?;
            self.start_exec(exec, health, pid, request).map_err(|error| failed(&error))?;
            return Ok(StartResponse { pid, ..StartResponse::default() });
        }
        task.start().map_err(|error| failed(&error))?;
        self.events.send(TaskStart { container_id: request.id, pid, ..TaskStart::default() });
        Ok(StartResponse { pid, ..StartResponse::default() })
    }

    fn kill(&self, _: &TtrpcContext, request: KillRequest) -> TtrpcResult<Empty> {
        let (task, exec) = self.process(&request.id, &request.exec_id)?;
        let state = exec.as_ref().map_or(&*task.state, |exec| &exec.state);
        if state.status() == ProcessStatus::Stopped {
            return Err(rpc_error(ttrpc::Code::NOT_FOUND, "the process has already ended"));
        }
        if let Some(exec) = exec {
            if let Some(exit) = exec.kill() {
                self.events.send(exit_event(&request.id, &request.exec_id, task.pid, &exit));
            }
            return Ok(Empty::new());
        }
        let target = if request.all { SignalTarget::All } else { SignalTarget::Init };
        task.container.kill(request.signal, target).map_err(|error| failed(&error))?;
        Ok(Empty::new())
    }

    fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> TtrpcResult<DeleteResponse> {
        let (task, exec) = self.process(&request.id, &request.exec_id)?;
        let state = exec.as_ref().map_or(&*task.state, |exec| &exec.state);
        if state.status() == ProcessStatus::Running {
            let reason = "the process is still running: stop it first";
            return Err(rpc_error(ttrpc::Code::FAILED_PRECONDITION, reason));
        }
        if let Some(exec) = &exec {
            // One that was never started may be waited for.
            exec.kill();
            task.remove_exec(&request.exec_id);
            return Ok(deleted(task.pid, exec.state.status_and_exit().1));
        }
        task.delete().map_err(|error| failed(&error))?;
        let exit = task.state.wait();
        self.tasks().remove(&request.id);
        self.events.send(TaskDelete {
            container_id: request.id,
            pid: task.pid,
            exit_status: exit.status,
            exited_at: Some(exit.at.clone()).into(),
            ..TaskDelete::default()
        });
        Ok(deleted(task.pid, Some(exit)))
    }

    fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> TtrpcResult<WaitResponse> {
        let (task, exec) = self.process(&request.id, &request.exec_id)?;
        let exit = exec.as_ref().map_or(&*task.state, |exec| &exec.state).wait();
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: Some(exit.at).into(),
            ..WaitResponse::default()
        })
    }

    fn state(&self, _: &TtrpcContext, request: StateRequest) -> TtrpcResult<StateResponse> {
        let (task, exec) = self.process(&request.id, &request.exec_id)?;
        let (state, [stdin, stdout, stderr]) = match exec.as_deref() {
            Some(Exec { state, stdin, stdout, stderr }) => (state, [stdin, stdout, stderr]),
            None => {
                let ContainerRequest { stdin, stdout, stderr, .. } = &task.request;
                (&*task.state, [stdin, stdout, stderr])
            }
        };
        let (status, exit) = state.status_and_exit();
        Ok(StateResponse {
            id: request.id,
            exec_id: request.exec_id,
            bundle: task.request.bundle.display().to_string(),
            stdin: stdin.clone(),
            stdout: stdout.clone(),
            stderr: stderr.clone(),
            pid: task.pid,
            status: match status {
                ProcessStatus::Created => api::Status::CREATED,
                ProcessStatus::Running => api::Status::RUNNING,
                ProcessStatus::Stopped => api::Status::STOPPED,
            }
            .into(),
            exit_status: exit.as_ref().map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| exit.at).into(),
            ..StateResponse::default()
        })
    }

    fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> TtrpcResult<PidsResponse> {
        let pid = self.task(&request.id)?.pid;
        let process = ProcessInfo { pid, ..ProcessInfo::default() };
        Ok(PidsResponse { processes: vec![process], ..PidsResponse::default() })
    }

    fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> TtrpcResult<StatsResponse> {
        let task = self.task(&request.id)?;
        if task.state.status() == ProcessStatus::Stopped {
            return Err(rpc_error(ttrpc::Code::NOT_FOUND, "the process has ended"));
        }
        let used = stats::collect(task.pid).map_err(|error| failed(&error))?;
        Ok(StatsResponse { stats: Some(used).into(), ..StatsResponse::default() })
    }

    fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id)?;
        if request.terminal {
            return Err(no_terminal());
        }
        let exec = Exec::from_request(&request)
            .map_err(|error| rpc_error(ttrpc::Code::INVALID_ARGUMENT, format!("{error:#}")))?;
        let exec = exec.filter(|_| task.health().is_some()).ok_or_else(no_exec)?;
        task.add_exec(&request.exec_id, exec).map_err(|refusal| match refusal {
            ExecRefusal::IdInUse => {
                let reason = format!("the command {} already exists", request.exec_id);
                rpc_error(ttrpc::Code::ALREADY_EXISTS, reason)
            }
            ExecRefusal::TooMany => {
                let reason = format!("{MAX_EXECS} commands already run in this container");
                rpc_error(ttrpc::Code::RESOURCE_EXHAUSTED, reason)
            }
        })?;
        self.events.send(TaskExecAdded {
            container_id: request.id,
            exec_id: request.exec_id,
            ..TaskExecAdded::default()
        });
        Ok(Empty::new())
    }

    /// Commands read no input.
    fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> TtrpcResult<Empty> {
        self.process(&request.id, &request.exec_id)?;
        Ok(Empty::new())
    }

    /// Must return an error: without a reply, containerd would assume that the container has ended and the update is
    /// applied.
    fn update(&self, _: &TtrpcContext, _: UpdateTaskRequest) -> TtrpcResult<Empty> {
        let reason = "the limits of a running container cannot be changed: replace the pod";
        Err(rpc_error(ttrpc::Code::UNIMPLEMENTED, reason))
    }

    fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> TtrpcResult<ConnectResponse> {
        let task_pid = self.task(&request.id)?.pid;
        let shim_pid = std::process::id();
        Ok(ConnectResponse { shim_pid, task_pid, ..ConnectResponse::default() })
    }

    fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> TtrpcResult<Empty> {
        if self.tasks().is_empty() {
            self.exit.signal();
        }
        Ok(Empty::new())
    }
}
